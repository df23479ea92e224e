"""A CNI plugin with no daemon beside it: the same engine in this process. The shim executes it."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> int:
    """Read the environment and standard input, answer, and give the exit status."""
    from dovetail.assembly import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, build_engine
    from dovetail.cni.plugin import run

    environ = {name: value for name, value in os.environ.items() if name.startswith("CNI_")}
    outcome = run(
        environ,
        sys.stdin.buffer.read() if environ.get("CNI_COMMAND") not in {None, "VERSION"} else b"",
        lambda: build_engine(
            state_dir=os.environ.get("DOVETAIL_STATE_DIR") or DEFAULT_STATE_DIR,
            run_dir=os.environ.get("DOVETAIL_RUN_DIR") or DEFAULT_RUN_DIR,
        ),
        plugin=os.environ.get("DOVETAIL_CNI_TYPE", "dovetail"),
    )
    sys.stdout.buffer.write(outcome.stdout)
    sys.stderr.buffer.write(outcome.stderr)
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
