"""The reference page of the command line, written from the commands themselves (docs/reference/cli.md)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from dovetail.cli.command import Verb

__all__ = ["reference"]

_HEAD = """\
# The commands

<!-- Written by `dovetail reference`; a test keeps it equal to the help texts. -->
"""


def reference(root: click.Group) -> str:
    """Write one section a command, in the order of the help."""
    context = click.Context(root, info_name="dovetail", **root.context_settings)
    return "\n".join([_HEAD, *_section(root, context)]).rstrip() + "\n"


def _section(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## `{context.command_path}`\n"
    yield inspect.cleandoc(command.help or "").replace("\b\n", "") + "\n"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"    {usage}\n"
    options = [record for p in command.get_params(context) if (record := p.get_help_record(context))]
    if options:
        yield "| argument, option | meaning |\n| --- | --- |"
        yield from (f"| `{_cell(name)}` | {_cell(meaning)} |" for name, meaning in options)
        yield ""
    if isinstance(command, Verb) and command.examples:
        yield "\n".join(f"    {example}" for example in command.examples) + "\n"
    if isinstance(command, Verb) and command.exits:
        yield "Exit status:\n"
        yield "\n".join(f"- {status}: {meaning}" for status, meaning in command.exits.items()) + "\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                inner = click.Context(below, info_name=name, parent=context, **below.context_settings)
                yield from _section(below, inner)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
