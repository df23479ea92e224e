"""``dovetail demo``."""

import click

from dovetail.cli.command import Verb


@click.command(cls=Verb, explainable=False)
def demo() -> None:
    """Show it."""
