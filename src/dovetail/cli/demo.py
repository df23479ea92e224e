"""``dovetail demo``."""

import click

from dovetail.cli.command import Verb
from dovetail.errors import Unsupported


@click.command(cls=Verb, explainable=False)
def demo() -> None:
    """Show it. Not there yet: exits 1 and says so."""
    raise Unsupported("the demo is not written yet", hint="docs: README.md shows the commands")
