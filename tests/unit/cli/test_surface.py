from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dovetail.cli.command import Verb
from dovetail.cli.reference import reference
from dovetail.main import root

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


def commands(group, path=()):
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = dict(commands(root))


def test_every_command_of_the_fixed_surface_is_there():
    wanted = """daemon; network create; network ls; network inspect; network rm; network connect; network disconnect;
        sandbox create; sandbox ls; sandbox inspect; sandbox rm; sandbox exec; run; endpoint ls; endpoint inspect;
        driver ls; driver inspect; cni install; trace; topology; doctor; demo; version; completion"""

    assert {tuple(words.split()) for words in wanted.split(";")} <= ALL.keys()


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_a_help_text_that_fits_the_list_and_examples(path):
    command = ALL[path]
    first = (command.help or "").strip().splitlines()[0]

    assert first.endswith(".")
    assert len(first) < 60
    if isinstance(command, Verb) and not command.hidden:
        assert command.examples
        assert all("dovetail" in example for example in command.examples)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_argument_and_option_says_what_it_is(path):
    for parameter in ALL[path].params:
        if not getattr(parameter, "hidden", False):
            assert parameter.help, parameter.name


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_commands_help_ends_with_its_exit_status(path, shell):
    command = ALL[path]
    if isinstance(command, Verb):
        ran = shell(*path, "--help")

        assert (ran.status, ran.err) == (0, "")
        last = ran.out.rpartition("\n\n")[2].splitlines()
        assert last[0] == "Exit status:"
        assert [line.split()[0] for line in last[1:4]] == ["0", "1", "2"]


EXAMPLES = [
    pytest.param(example, id=example)
    for command in ALL.values()
    if isinstance(command, Verb)
    for example in command.examples
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_a_help_text_can_be_typed(example):
    line = re.search(r"dovetail (.*)", example)[1].partition(')"')[0].partition(">")[0]

    context, command = root.make_context("dovetail", shlex.split(line, comments=True)), root
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)


def test_the_reference_page_is_what_the_help_texts_say():
    assert REFERENCE.read_text(encoding="utf-8") == reference(root), (
        "run: dovetail reference > docs/reference/cli.md"
    )


def run(*words, **environ):
    return subprocess.run(
        [sys.executable, "-m", "dovetail", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, **environ},
    )


@pytest.fixture
def complete(shell, daemon):
    """Complete the last word of a line in bash itself, with the script that `dovetail completion` prints."""
    for name in ("web", "world", "db"):
        shell("network", "create", name)
    for name in ("box", "barrel"):
        shell("sandbox", "create", name)
    shell("network", "connect", "web", "box")
    completed = shell("completion", "bash").out

    def ask(line):
        words = shlex.join(line.split(" "))
        script = f"{completed}\nCOMP_WORDS=({words}) COMP_CWORD={line.count(' ')}\n_dovetail_completion dovetail\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "DOVETAIL_RUN_DIR": str(shell.run_dir),
                "DOVETAIL_STATE_DIR": str(shell.run_dir),
            },
        )
        assert done.stderr == ""
        return done.stdout.split()

    return ask


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dovetail net", ["network"]),
        ("dovetail network con", ["connect"]),
        ("dovetail network create x --sub", ["--subnet"]),
        ("dovetail network rm w", ["web", "world"]),
        ("dovetail network inspect web d", ["db"]),
        ("dovetail network connect web b", ["barrel", "box"]),
        ("dovetail sandbox exec bo", ["box"]),
        ("dovetail run --network d", ["db"]),
        ("dovetail endpoint inspect ", ["box"]),
        ("dovetail network create x -d b", ["bridge"]),
        ("dovetail --format j", ["json"]),
        ("dovetail completion z", ["zsh"]),
    ],
)
def test_bash_completes_commands_options_and_names(complete, line, words):
    assert complete(line) == words


def test_completion_without_permission_or_daemon_is_silent(tmp_path):
    (tmp_path / "file").touch()

    done = run(
        _DOVETAIL_COMPLETE="bash_complete",
        COMP_WORDS="dovetail network rm w",
        COMP_CWORD="3",
        DOVETAIL_RUN_DIR=str(tmp_path / "file" / "x"),
        DOVETAIL_STATE_DIR=str(tmp_path / "file" / "y"),
    )

    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_shells_completion_scripts_are_printed(shell, name):
    assert "_DOVETAIL_COMPLETE" in shell("completion", name).out


def test_help_needs_neither_rich_nor_the_daemon():
    code = "import sys, dovetail.main; sys.exit(any(m in sys.modules for m in ('rich', 'asyncio', 'uvicorn', 'dovetail.daemon')))"

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0


def test_no_command_prints_the_help_and_is_wrong_usage():
    done = run()

    assert done.returncode == 2
    assert "Commands:" in done.stderr


def test_a_reader_that_goes_away_makes_no_noise():
    done = subprocess.run(
        f"{sys.executable} -m dovetail reference | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert done.stderr == ""
