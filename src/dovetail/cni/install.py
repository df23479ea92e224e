"""Put the CNI executable where runtimes look for plugins, and take it away again.

What another package has there under the same names is kept in a directory beside, and put back.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from dovetail.cni.executables import is_ours
from dovetail.cni.plugins import PLUGINS
from dovetail.errors import DovetailError, InvalidArgument, KernelError, PermissionDenied

__all__ = ["install", "uninstall"]

_HERE = Path(__file__).resolve().parent
_COMPILERS = (
    # musl's start is 0.4 ms shorter than glibc's here: no dynamic linking, and no CPUID instructions, which trap in a
    # virtual machine. Debian package musl-tools.
    ("musl-gcc", "-static"),
    ("cc",),
    ("gcc",),
    ("clang",),
)
_COMPILE_S = 120
_KEPT = ".before-dovetail"
_SETTINGS = ".dovetail"


def install(
    bin_dir: str,
    *,
    run_dir: str,
    state_dir: str,
    python: str = sys.executable,
    types: Collection[str] = (),
) -> list[str]:
    """Install the shim under the names of `types`, of all plugins where none is named; gives the paths.

    Compiles the C shim where there is a compiler, else installs the Python stand-in. Files appear by
    rename, so that a runtime never executes half of one. The C shim has `run_dir` compiled in; beside it goes
    ``.dovetail``, which tells state_dir and the Python that has dovetail, and the stand-in its run_dir. A plugin of
    somebody else's goes into the directory ``.before-dovetail``, where runtimes do not look.
    """
    unknown = sorted(set(types) - set(PLUGINS))
    if unknown:
        raise InvalidArgument(
            f"dovetail has no plugin {unknown[0]!r}", hint=f"there are {', '.join(sorted(PLUGINS))}"
        )
    for value in (run_dir, state_dir, python):
        if "\n" in value:
            raise InvalidArgument(f"{value!r} has a line break in it")
    try:
        os.makedirs(bin_dir, mode=0o755, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=bin_dir, prefix=".dovetail-") as scratch:
            shim = _build(scratch, os.path.abspath(run_dir))
            settings = os.path.join(scratch, "settings")
            Path(settings).write_text(
                f"run_dir={os.path.abspath(run_dir)}\nstate_dir={os.path.abspath(state_dir)}\npython={python}\n",
                encoding="utf-8",
            )
            os.chmod(settings, 0o644)
            os.replace(settings, os.path.join(bin_dir, _SETTINGS))
            paths = []
            for name in sorted(types or PLUGINS):
                copy = os.path.join(scratch, "copy")
                shutil.copyfile(shim, copy)
                os.chmod(copy, 0o755)  # noqa: S103 - a runtime of any user executes it
                paths.append(os.path.join(bin_dir, name))
                _keep(paths[-1])
                os.replace(copy, paths[-1])
            return paths
    except OSError as exc:
        raise _denied(bin_dir, exc) from exc


def uninstall(bin_dir: str) -> list[str]:
    """Take away every plugin of ours, and put back what was there before; gives the paths of both, sorted.

    None is no error. A plugin that somebody has put in the place of ours since stays.
    """
    try:
        changed = [path for name in PLUGINS if is_ours(path := os.path.join(bin_dir, name))]
        kept = os.path.join(bin_dir, _KEPT)
        before = sorted(os.listdir(kept)) if os.path.isdir(kept) else []
        for path in changed:
            if os.path.basename(path) not in before:
                os.unlink(path)
        for name in before:
            path = os.path.join(bin_dir, name)
            if path in changed or not os.path.lexists(path):
                os.replace(os.path.join(kept, name), path)
        if before and not os.listdir(kept):
            os.rmdir(kept)
        if os.path.lexists(os.path.join(bin_dir, _SETTINGS)):
            os.unlink(os.path.join(bin_dir, _SETTINGS))
    except OSError as exc:
        raise _denied(bin_dir, exc) from exc
    return sorted(changed)


def _keep(path: str) -> None:
    """Put aside what has the name of a plugin and is not ours."""
    if not os.path.lexists(path) or is_ours(path):
        return
    kept = os.path.join(os.path.dirname(path), _KEPT)
    os.makedirs(kept, mode=0o755, exist_ok=True)
    os.replace(path, os.path.join(kept, os.path.basename(path)))


def _build(scratch: str, run_dir: str) -> str:
    source = _source("dovetail-cni.c")
    target = os.path.join(scratch, "shim")
    for compiler, *flags in _COMPILERS:
        if source is None or shutil.which(compiler) is None:
            continue
        command = [compiler, "-O2", f"-DRUN_DIR={_c_string(run_dir)}", *flags, "-o", target, str(source)]
        done = subprocess.run(command, capture_output=True, timeout=_COMPILE_S, check=False)
        if done.returncode == 0:
            return target
    stand_in = _source("dovetail-cni.py")
    if stand_in is None:
        raise KernelError("neither the C shim nor its stand-in is in this installation", 2)  # ENOENT
    return str(stand_in)


def _c_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _source(name: str) -> Path | None:
    """Find a shim's source: in the wheel beside this file, in a checkout at its root."""
    for directory in (_HERE / "shim", _HERE.parents[2] / "shim"):
        if (directory / name).is_file():
            return directory / name
    return None


def _denied(bin_dir: str, exc: OSError) -> DovetailError:
    if isinstance(exc, PermissionError):
        return PermissionDenied(f"no permission to write to {bin_dir}", hint="run as root, or give --bin-dir")
    return InvalidArgument(f"plugins cannot be installed in {bin_dir}: {exc.strerror}")
