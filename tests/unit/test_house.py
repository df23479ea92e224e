"""The house rules that a linter does not know: layers, sizes, names, and what an import may cost."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "dovetail"
MODULES = sorted(SOURCE.rglob("*.py"))
LINES = 500
SCREEN = 40
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
HEAVY = (
    "click",
    "rich",
    "starlette",
    "uvicorn",
    "prometheus_client",
    "pyroute2",
    "asyncio",
    "sqlite3",
    "ssl",
)


def imported(statement: str) -> set[str]:
    """Give the modules that `statement` imports into a fresh interpreter."""
    program = (
        f"import sys\nbefore = set(sys.modules)\n{statement}\nprint('\\n'.join(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_import_linter_keeps_every_contract() -> None:
    program = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert program is not None
    done = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_is_one_idea_of_at_most_500_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES


def test_no_module_is_a_drawer() -> None:
    assert [path for path in MODULES if path.stem in DRAWERS or path.parent.name in DRAWERS] == []


def test_every_function_fits_a_screen() -> None:
    long = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.body:
                lines = node.body[-1].end_lineno - _first_statement(node).lineno + 1
                if lines > SCREEN:
                    long.append(f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}: {lines} lines")

    assert long == []


def _first_statement(node: ast.FunctionDef) -> ast.stmt:
    """Give the first statement after the docstring."""
    documented = ast.get_docstring(node) is not None and len(node.body) > 1
    return node.body[1] if documented else node.body[0]


def test_importing_dovetail_imports_nothing_heavy() -> None:
    assert imported("import dovetail") & set(HEAVY) == set()


def test_the_core_needs_msgspec_and_the_standard_library_only() -> None:
    found = {name.partition(".")[0] for name in imported("import dovetail.assembly")}
    third = found - set(sys.stdlib_module_names) - {"dovetail", "msgspec"}

    # msgspec imports typing_extensions where it is installed; it does without where it is not
    assert third - {"typing_extensions"} == set()


def test_the_engine_imports_nothing_that_is_heavy() -> None:
    found = imported("import dovetail.engine.engine, dovetail.cni.plugin, dovetail.kernel.linux")

    assert found & (set(HEAVY) - {"sqlite3"}) == set()


def test_a_cni_plugin_without_a_daemon_imports_no_command_line() -> None:
    found = imported("import dovetail.cli.plugin_main, dovetail.assembly, dovetail.cni.plugin")

    assert found & {"click", "rich", "asyncio", "prometheus_client"} == set()


def test_no_file_names_the_checkout_it_was_written_in() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    ).stdout
    if not tracked or len(ROOT.parts) < 3:
        pytest.skip("this is no git checkout below a directory of its own")
    paths = [ROOT / name for name in tracked.split("\0") if name and (ROOT / name).is_file()]

    assert [path for path in paths if f"{ROOT}/" in path.read_text(encoding="utf-8", errors="replace")] == []


def test_the_lock_has_a_hash_for_every_package_and_names_no_host() -> None:
    text = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")
    entries = [
        entry
        for entry in text.replace("\\\n", " ").splitlines()
        if entry and not entry.lstrip().startswith("#")
    ]

    assert entries
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert "@" not in text
