"""Commands as dovetail has them: examples and exit status in the help, the common options behind the command too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from dovetail.cli.session import Session

__all__ = ["Noun", "Verb"]

_EXITS = {
    "0": "It is done.",
    "1": "It failed; a sentence on the standard error says why.",
    "2": "Wrong usage; nothing was done.",
}


class Verb(click.Command):
    """A command with examples; each of `examples` is a command line and, behind ``#``, what it does.

    exits: what an exit status means, where it is another thing than for most commands. explainable:
    ``--explain`` means something for it.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        exits: Mapping[str, str] | None = None,
        explainable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.exits = dict(exits or {})
        self.params += [_format_option(), _explain_option()]
        self._explainable = explainable

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, then print what ``--explain`` collected."""
        session = ctx.ensure_object(Session)
        if session.explain and not self._explainable:
            raise click.UsageError(f"--explain has no meaning for {ctx.command_path!r}", ctx)
        result = super().invoke(ctx)
        session.finish()
        return result

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples below the options, and what the exit status means."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"  {example}\n")
        with formatter.section("Exit status"):
            meanings = {**_EXITS, **self.exits}
            formatter.write_dl(sorted(meanings.items(), key=lambda row: (row[0].isalpha(), len(row[0]), row)))
        super().format_epilog(ctx, formatter)


class Noun(click.Group):
    """A group whose commands are `Verb`, listed in the order they were added."""

    command_class = Verb
    group_class = type

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Keep the order of the source."""
        return list(self.commands)


def _set(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value and param.name is not None:
        setattr(ctx.ensure_object(Session), param.name, value)


def _format_option() -> click.Option:
    choice = click.Choice(["table", "json"])
    return click.Option(["--format"], type=choice, hidden=True, expose_value=False, callback=_set)


def _explain_option() -> click.Option:
    return click.Option(["--explain"], is_flag=True, hidden=True, expose_value=False, callback=_set)
