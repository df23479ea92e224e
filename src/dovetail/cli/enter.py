"""Programs in a sandbox's namespace: instead of this process, or beside it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from dovetail.errors import DovetailError, one_sentence
from dovetail.kernel.netns import entered, open_netns
from dovetail.kernel.protocol import Netns

__all__ = ["FORWARDED", "replace_process", "run_beside"]

# What a shell says when it cannot run a command, POSIX.1-2017 XCU 2.8.2
_NOT_FOUND = 127
_NOT_RUN = 126
FORWARDED = frozenset(
    {
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
        signal.SIGCONT,
    }
)
_BY_KERNEL = 0x80  # SI_KERNEL, include/uapi/asm-generic/siginfo.h: a key on the terminal


def replace_process(netns: str, command: Sequence[str]) -> NoReturn:
    """Become `command` in the namespace at `netns`; needs CAP_SYS_ADMIN.

    Raises InvalidArgument or PermissionDenied where the namespace cannot be entered; a command that cannot
    be run ends the process with 127 or 126.
    """
    with open_netns(netns) as opened, entered(opened):
        _exec(command)


def run_beside(netns: str, command: Sequence[str]) -> int:
    """Run `command` in the namespace at `netns`, wait, and give its exit status (128 + n where signal n killed it).

    `FORWARDED` and SIGCHLD must be blocked by the caller since before there was anything to clean up. A signal
    that a process sent to this one is handed on; what a key on the terminal sent, the command has got itself.
    """
    with open_netns(netns) as opened:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _be_child(opened, command)
    while True:
        came = signal.sigwaitinfo(FORWARDED | {signal.SIGCHLD})
        if came.si_signo != signal.SIGCHLD:
            if came.si_code != _BY_KERNEL:
                os.kill(child, came.si_signo)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _be_child(netns: Netns, command: Sequence[str]) -> NoReturn:
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED | {signal.SIGCHLD})
        with entered(netns):
            _exec(command)
    except DovetailError as exc:
        print(f"dovetail: {one_sentence(exc)}", file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(_NOT_RUN)


def _exec(command: Sequence[str]) -> NoReturn:
    # what Python ignores for itself, a program expects as it was (bpo-1652)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvp(command[0], list(command))  # noqa: S606 - running the user's command is the point
    except FileNotFoundError:
        reason, status = "no such program", _NOT_FOUND
    except OSError as exc:
        reason, status = exc.strerror or str(exc), _NOT_RUN
    print(f"dovetail: {command[0]!r} cannot be run: {reason}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(status)
