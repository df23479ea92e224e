"""The programs that are run: ``nft`` for rulesets, ``iptables`` and ``firewall-cmd`` for the host's other firewall.

All are rare. They run in the namespace of the thread that starts them, without a shell.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from subprocess import PIPE, Popen, TimeoutExpired

from dovetail.errors import Busy, DovetailError, KernelError, PermissionDenied, Unsupported

__all__ = [
    "firewall_cmd",
    "firewalld_zone",
    "has_program",
    "iptables",
    "iptables_restore",
    "iptables_rules",
    "legacy_policies",
    "legacy_program",
    "legacy_tables",
    "nft_apply",
    "nft_check",
    "nft_program",
    "restore_text",
]

_TIMEOUT_S = 60.0
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"  # where a daemon's PATH may end before /usr/sbin


def nft_apply(ruleset: str) -> None:
    """Apply `ruleset` as one transaction, as ``nft -f -``.

    Raises Unsupported (no nft), PermissionDenied, KernelError with nft's own first line, Busy.
    """
    status, errors = _nft(["-f", "-"], ruleset)
    if status != 0:
        raise _nft_failure(errors)


def nft_check(ruleset: str) -> str:
    """Say what is wrong with `ruleset`, as ``nft -c -f -`` does: ``LINE:COLUMN: what``; empty where it is right.

    Nothing is applied, but the kernel is asked as well. Raises as `nft_apply`, except KernelError.
    """
    status, errors = _nft(["-c", "-f", "-"], ruleset)
    if status == 0:
        return ""
    failure = _nft_failure(errors)
    if isinstance(failure, PermissionDenied):
        raise failure
    return failure.extack if isinstance(failure, KernelError) else str(failure)


def _nft(args: list[str], text: str) -> tuple[int, str]:
    try:
        status, _, errors = _run(["nft", *args], text)
    except FileNotFoundError as exc:
        raise Unsupported("the program nft is not installed", hint="install nftables") from exc
    return status, errors


def _nft_failure(errors: str) -> DovetailError:
    first = next((line.strip() for line in errors.splitlines() if line.strip()), "nft gave no reason")
    first = first.removeprefix("/dev/stdin:")
    if "Operation not permitted" in errors:
        return PermissionDenied("no permission for `nft -f -`", hint="it needs CAP_NET_ADMIN: run as root")
    code = errno.ENOENT if "No such file" in errors else errno.EINVAL
    return KernelError(f"the kernel refused `nft -f -`: {first}", code, extack=first)


def iptables(program: str, *args: str) -> bool:
    """Run ``iptables`` or ``ip6tables``, waiting for its lock; True when it exits 0, False without the program."""
    try:
        return _run([program, "--wait", *args], "")[0] == 0
    except FileNotFoundError:
        return False


def iptables_rules(program: str, table: str = "filter") -> list[str]:
    """List a table as ``iptables -S``; empty where the program is missing or refuses."""
    try:
        status, output, _ = _run([program, "--wait", "-t", table, "-S"], "")
    except FileNotFoundError:
        return []
    return output.splitlines() if status == 0 else []


def iptables_restore(program: str, changes: Mapping[str, Sequence[str]]) -> None:
    """Run ``iptables-restore`` of `program`; see `PacketFilter.iptables_restore`."""
    name = f"{program}-restore"
    try:
        status, _, errors = _run([name, "--noflush", "--wait"], restore_text(changes))
    except FileNotFoundError as exc:
        raise Unsupported(f"the program {name} is not installed", hint="install iptables") from exc
    if status != 0:
        raise _restore_failure(name, errors)


def restore_text(changes: Mapping[str, Sequence[str]]) -> str:
    """Write what ``iptables-restore`` reads."""
    return "".join(
        f"*{table}\n" + "".join(f"{line}\n" for line in lines) + "COMMIT\n"
        for table, lines in changes.items()
    )


def _restore_failure(name: str, errors: str) -> DovetailError:
    said = [line.strip() for line in errors.splitlines() if line.strip() and not line.startswith("#")]
    if "Permission denied" in errors or "Operation not permitted" in errors:
        return PermissionDenied(f"no permission for `{name}`", hint="it needs CAP_NET_ADMIN: run as root")
    # the nftables one writes its version in a line of its own first
    lines = [line for line in said if not re.fullmatch(r"\S+ v[\d.]+ \(\w+\):", line)] or [
        "it gave no reason"
    ]
    first = lines[0].removeprefix(f"{name}: ")
    return KernelError(f"`{name}` refused: {first}", errno.EINVAL, extack=first)


def has_program(name: str) -> bool:
    """Say whether a program of that name is where programs are, or where root's are."""
    return shutil.which(name, path=_path()) is not None


def firewall_cmd(*args: str) -> bool:
    """Run ``firewall-cmd``; True when it exits 0, False without the program."""
    try:
        return _run(["firewall-cmd", *args], "")[0] == 0
    except FileNotFoundError:
        return False


def firewalld_zone(zone: str) -> frozenset[str]:
    """Name the interfaces and sources in `zone`, as ``firewall-cmd --list-all`` does; none where it refuses."""
    try:
        status, output, _ = _run(["firewall-cmd", f"--zone={zone}", "--list-all"], "")
    except FileNotFoundError:
        return frozenset()
    listed = [line.strip().partition(": ") for line in output.splitlines()] if status == 0 else []
    return frozenset(
        name for key, _, names in listed if key in {"interfaces", "sources"} for name in names.split()
    )


def nft_program(name: str) -> str:
    """Name the program for what iptables-nft made: `name`, unless that is the legacy one."""
    return f"{name}-nft" if _is_legacy(name) else name


def legacy_policies(names: Iterable[str]) -> dict[str, bool]:
    """Say for the legacy ``iptables`` and ``ip6tables`` whether FORWARD drops; left out where they are not in use.

    They have a firewall of their own in the kernel. /proc tells which of its tables are there (ip_tables_names,
    net/ipv4/netfilter/ip_tables.c), in the namespace of the calling thread; looking with the program would make them.
    """
    policies = {}
    for name in names:
        if "filter" not in legacy_tables(name):
            continue
        program = legacy_program(name)
        rules = iptables_rules(program)
        if rules:
            policies[program] = "-P FORWARD DROP" in rules
    return policies


def legacy_tables(name: str) -> frozenset[str]:
    """Name the tables of legacy ``iptables`` or ``ip6tables`` in the namespace of the calling thread."""
    try:
        with open(
            f"/proc/thread-self/net/{name.replace('tables', '_tables')}_names", encoding="ascii"
        ) as file:
            return frozenset(file.read().split())
    except FileNotFoundError:  # the kernel has none
        return frozenset()


def legacy_program(name: str) -> str:
    """Name the program for what legacy iptables made: `name`, where that is it."""
    return name if _is_legacy(name) else f"{name}-legacy"


def _is_legacy(name: str) -> bool:
    path = shutil.which(name, path=_path())
    return path is not None and os.path.realpath(path).endswith("-legacy-multi")


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATH}"


def _run(command: list[str], text: str) -> tuple[int, str, str]:
    """Run a program; gives its status and what it wrote to its two outputs."""
    environment = {"PATH": _path(), "LC_ALL": "C"}
    with Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, text=True) as process:
        try:
            output, errors = process.communicate(text, timeout=_TIMEOUT_S)
        except TimeoutExpired as exc:
            process.kill()
            raise Busy(
                f"`{' '.join(command)}` did not end within {_TIMEOUT_S:g} s", hint="try again"
            ) from exc
        except BaseException:
            process.kill()
            raise
    return process.returncode, output, errors
