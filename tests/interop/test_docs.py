"""The commands of the documentation, run as they stand there: page by page, each page in a host of its own.

The form of a page is described in CONTRIBUTING.md ("Documentation").
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dovetail.main import root

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
    if "```console" in page.read_text(encoding="utf-8")
]
PROVIDED = {"daemon": "dovetail", "docker": "docker.io", "podman": "podman", "bundle": "dovetail"}
"""What this test can give a page, and the package it comes with."""
OURS = {"daemon", "bundle"}
NOT_HERE = {"systemd", "containerd"}
"""What pages may need and this test cannot give; such commands are checked and not run."""
_NAME = {page: str(page.relative_to(ROOT)) for page in PAGES}


class Command(NamedTuple):
    """A command, the line it stands in, and the output that the page shows below it (None where it shows none)."""

    line: int
    text: str
    output: str | None


class Block(NamedTuple):
    """The commands of one ``console`` block, what they need, and why they are not run."""

    needs: frozenset[str]
    not_run: str
    commands: list[Command]

    @property
    def runs(self) -> bool:
        return not self.not_run and self.needs <= PROVIDED.keys()


# -- reading a page ---------------------------------------------------------------------------------------


def blocks_of(page: Path) -> list[Block]:
    """Read the ``console`` blocks of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found: list[Block] = []
    note = ""
    number = 0
    while number < len(lines):
        line = lines[number].strip()
        if line.startswith("<!--"):
            note = line
        elif line == "```console":
            number = _block(lines, number + 1, note, found)
            note = ""
        elif line:
            note = ""
        number += 1
    return found


def _block(lines: Sequence[str], start: int, note: str, found: list[Block]) -> int:
    """Read one block from its first line on; gives the number of the last line that belongs to it."""
    end = next(number for number in range(start, len(lines)) if lines[number].strip() == "```")
    commands: list[Command] = []
    number = start
    while number < end:
        assert lines[number].startswith("$ "), (
            f"line {number + 1}: {lines[number]!r} is neither command nor output"
        )
        first, text = number, [lines[number].removeprefix("$ ")]
        here = re.search(r"<<'?(\w+)'?", text[0])
        while here and lines[number] != here[1]:
            number += 1
            text.append(lines[number])
        number += 1
        output = []
        while number < end and not lines[number].startswith("$ "):
            output.append(lines[number])
            number += 1
        commands.append(Command(first + 1, "\n".join(text), "\n".join(output) if output else None))
    # a block without a language directly below shows what the last command prints
    below = next((number for number in range(end + 1, len(lines)) if lines[number].strip()), end)
    if lines[below].strip() == "```" and below != end:
        last = next(number for number in range(below + 1, len(lines)) if lines[number].strip() == "```")
        commands[-1] = commands[-1]._replace(output="\n".join(lines[below + 1 : last]))
        end = last
    needs = re.fullmatch(r"<!-- needs: (.+) -->", note)
    not_run = re.fullmatch(r"<!-- not run: (.+) -->", note)
    found.append(
        Block(frozenset(needs[1].split()) if needs else frozenset(), not_run[1] if not_run else "", commands)
    )
    return end


# -- comparing output -------------------------------------------------------------------------------------

_DIFFERS = (
    (r"\b(dv[hc]|)[0-9a-f]{12,64}\b", r"\1ID"),
    (r"\b(network[= ])[0-9a-z]{12}\b|^[0-9a-z]{25}$", r"\1ID"),  # a swarm's ids have other letters
    (r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", "MAC"),
    (r"fe80::[0-9a-f:]+", "fe80::IID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", "TIME"),
    (r"\b\d\d:\d\d:\d\d(?:\.\d+)?", "TIME"),
    (r"(?m)^ *\d+\.\d +\d+\.\d\d +(\d+)  ", r"AT TOOK \1 "),
    (r"\d+\.\d of them", "MS of them"),
    (r"\S+/netns/ID", "PATH"),
    (r"\d+\.\d+(?:/\d+\.\d+){3} ms", "MS"),
    (r"\d+(?:\.\d+)? ?ms\b", "MS"),
    (r"\bpid \d+\b", "pid PID"),
    (r"@if\d+", "@ifN"),
    (r"(?m)^(python|kernel) +\S+$", r"\1 VERSION"),
    (r"[ \t]+", " "),
)


def form(text: str) -> str:
    """Take out what is different each time, and the width of columns."""
    text = re.sub(rf"\b{re.escape(socket.gethostname())}\b", "debian", text)
    for pattern, word in _DIFFERS:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return "\n".join(line.strip() for line in text.strip().splitlines())


def matches(shown: str, printed: str) -> bool:
    """Say whether what was printed has the form of what the page shows; a line ``…`` there is any lines here."""
    parts = [re.escape(part.strip("\n")) for part in re.split(r"^…$", form(shown), flags=re.MULTILINE)]
    return re.fullmatch("(?s:.*)".join(parts), form(printed)) is not None


# -- running a page ---------------------------------------------------------------------------------------


class Session:
    """A shell in a private host, which runs the commands of a page one after the other."""

    def __init__(self, host: Any, environment: dict[str, str]) -> None:
        self._host = host
        self._environment = environment

    def run(self, commands: Sequence[Command]) -> None:
        """Run them; the first that fails, or prints something else than the page shows, fails the test."""
        directory = self._host.dir / "session"
        directory.mkdir()
        script = [f"cd {ROOT}"]
        for number, command in enumerate(commands):
            (directory / f"{number}.command").write_text(command.text, encoding="utf-8")
            run = f'eval "$(cat {directory}/{number}.command)" </dev/null >{directory}/{number}.output 2>&1'
            script.append(
                f"{run}; echo $? >{directory}/{number}.status; read -r s <{directory}/{number}.status; ((s == 0)) || exit 1"
            )
        (directory / "script").write_text("\n".join(script), encoding="utf-8")
        try:
            self._host.try_run("bash", str(directory / "script"), env=self._environment, timeout_s=150)
        except subprocess.TimeoutExpired:
            pass  # the command that hangs has no status
        for number, command in enumerate(commands):
            status, output = directory / f"{number}.status", directory / f"{number}.output"
            printed = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
            place = f"line {command.line}: $ {command.text}"
            assert status.exists(), f"{place}\nhangs; so far it printed:\n{printed}"
            code = status.read_text(encoding="ascii").strip()
            assert code == "0", f"{place}\nexit status {code}:\n{printed}"
            if command.output is not None:
                assert matches(command.output, printed), (
                    f"{place}\nprinted:\n{printed}\n\nthe page shows:\n{command.output}"
                )


class Stage:
    """A private host with what pages need, each made when it is first asked for."""

    def __init__(self, request: pytest.FixtureRequest, host: Any) -> None:
        self._request = request
        self._host = host
        self._programs = host.dir / "bin"
        self._programs.mkdir()
        (self._programs / "dovetail").symlink_to(Path(sys.executable).parent / "dovetail")
        self.environment = {
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "HOSTNAME": socket.gethostname(),
        }
        host.shadow("/etc", "/opt", "/usr/local", str(ROOT))
        host.run("rm", "-rf", "/etc/cni", "/opt/cni")

    def daemon(self) -> None:
        """Start the daemon on its usual directories."""
        self._host.spawn("daemon.log", str(self._programs / "dovetail"), "daemon")
        ping = ("curl", "-s", "--unix-socket", "/run/dovetail/api.sock", "http://x/v1/ping")
        self._host.wait_for(lambda: self._host.try_run(*ping).stdout == "{}", what="the daemon answers")

    def docker(self) -> None:
        """Start a dockerd that ``docker`` finds, and the daemon where Docker's API is on a host; with image ``busybox``."""
        docker = self._request.getfixturevalue("dockerd")
        docker("tag", "bb", "busybox")
        self._host.run("ln", "-s", str(self._host.dir / "docker" / "docker.sock"), "/run/docker.sock")
        self._program("docker", docker.command())

    def bundle(self) -> None:
        """See that the managed plugin is built."""
        done = subprocess.run([ROOT / "scripts" / "build-plugin"], capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stderr}\nwithout a network: make plugin first"

    def podman(self) -> None:
        """Let ``podman`` use a storage of its own, with image ``busybox``, and the usual directories of CNI."""
        podman = self._request.getfixturevalue("podman")
        podman("tag", "bb", "docker.io/library/busybox")
        for usual, ours in (("/etc/cni/net.d", "podman/net.d"), ("/opt/cni/bin", "cni-bin")):
            self._host.run("mkdir", "-p", os.path.dirname(usual))
            self._host.run("ln", "-s", str(self._host.dir / ours), usual)
        self.environment |= podman._env
        run = f'[ "$1" = run ] && shift && set -- run --cgroup-parent /{self._host.cgroup} "$@"\n'
        self._program("podman", podman.command(), before=run)

    def _program(self, name: str, command: Sequence[str], *, before: str = "") -> None:
        program = self._programs / name
        real = shutil.which(command[0])
        program.write_text(
            f'#!/bin/sh\n{before}exec {shlex.join([str(real), *command[1:]])} "$@"\n', encoding="utf-8"
        )
        program.chmod(0o755)


@pytest.mark.parametrize("page", PAGES, ids=_NAME.get)
def test_the_commands_of_a_page_do_what_it_says(
    page: Path, request: pytest.FixtureRequest, private_host: Any
) -> None:
    runnable = [block for block in blocks_of(page) if block.runs]
    missing = {need for block in runnable for need in block.needs if shutil.which(need) is None} - OURS
    here = [block for block in runnable if not block.needs & missing]
    stage = Stage(request, private_host)
    for need in ("docker", "podman", "daemon", "bundle"):
        if any(need in block.needs for block in here):
            getattr(stage, need)()

    Session(private_host, stage.environment).run([command for block in here for command in block.commands])

    if missing:
        packages = ", ".join(PROVIDED[need] for need in sorted(missing))
        pytest.skip(f"not all commands were run: not installed are the Debian packages {packages}")


# -- what is not run --------------------------------------------------------------------------------------


def words_of(command: str) -> Iterator[list[str]]:
    """Give the words of each simple command of a line, without redirections, assignments and shell words."""
    line = re.sub(r"<<'?(\w+)'?\n.*", "", command, flags=re.DOTALL)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set(";&|()"):
            if words:
                yield words
            words = []
        elif words or not re.match(r"\w+=|(if|then|do|done|until|while|for)$", word):
            words.append(word)


def check_dovetail(words: Sequence[str]) -> None:
    """Parse a command line of ours as far as possible without doing anything; wrong usage raises."""
    context = root.make_context("dovetail", list(words))
    command: Any = root
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, rest, parent=context)


UNRUN = [
    pytest.param(command, id=f"{_NAME[page]}:{command.line}")
    for page in PAGES
    for block in blocks_of(page)
    if not block.runs
    for command in block.commands
]


@pytest.mark.parametrize("command", UNRUN)
def test_a_command_that_is_not_run_names_what_there_is(command: Command) -> None:
    for words in words_of(command.text):
        if words[0] == "dovetail":
            check_dovetail(words[1:])
        for word in words[1:]:
            if re.fullmatch(r"dovetail[\w-]*\.(service|socket)", word):
                assert (ROOT / "packaging" / "systemd" / word).exists(), word
            if re.match(r"(src|docs|packaging|scripts)/", word):
                assert list(ROOT.glob(word)), word


def test_no_page_has_commands_in_another_form() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        languages = set(re.findall(r"^```(\w+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE))
        assert languages <= {"console", "json", "nft", "yaml"}, page


@pytest.mark.parametrize("page", PAGES, ids=_NAME.get)
def test_a_page_asks_for_what_there_is_a_word_for(page: Path) -> None:
    for block in blocks_of(page):
        assert block.needs <= PROVIDED.keys() | NOT_HERE


TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_make_target_of_the_text_is_there() -> None:
    targets = set(
        re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )

    for page in TEXTS:
        named = re.findall(r"(?:`|^    )make ([\w-]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(named) <= targets, page


def test_every_command_that_the_text_names_is_there() -> None:
    for page in TEXTS:
        for line in re.findall(r"`dovetail ([^`]+)`", page.read_text(encoding="utf-8")):
            command: Any = root
            for word in line.split():
                if not hasattr(command, "commands") or not re.fullmatch(r"[a-z]+", word):
                    break
                assert word in command.commands, f"{page}: dovetail {line}"
                command = command.commands[word]
