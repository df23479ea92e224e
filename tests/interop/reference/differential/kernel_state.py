"""What is in a host and its containers, as ``ip``, ``tc``, ``iptables-save`` and ``nft`` tell: as yet with its names."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)
_SYSCTLS = ("net/ipv4", "net/ipv6", "net/core", "net/netfilter")
# The kernel counts and caches here, or may not be asked.
_NOT_SYSCTLS = frozenset(
    {"nf_conntrack_count", "stable_secret", "flush", "nf_conntrack_buckets", "nf_conntrack_max"}
)
_FILES = ("/var/lib/cni", "/run/cni", "/run/case")


class InNamespace(threading.Thread):
    """Calls `function` on a thread that is in a network namespace, and ends there."""

    def __init__(self, path: str, function: Any) -> None:
        super().__init__()
        self._path, self._function, self.outcome = path, function, None

    def run(self) -> None:
        """Enter and call."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(descriptor, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns", self._path)
            self.outcome = self._function()
        finally:
            os.close(descriptor)


def within(netns: str, function: Any) -> Any:
    """Call a function in a container's namespace, or on the host for an empty name."""
    if not netns:
        return function()
    thread = InNamespace(f"/run/netns/{netns}", function)
    thread.start()
    thread.join()
    return thread.outcome


def run(*command: str, stdin: str = "") -> str:
    """Run a program that must succeed."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        message = f"{' '.join(command)}: exit {done.returncode}: {done.stderr}"
        raise RuntimeError(message)
    return done.stdout


def batch(program: str, *flags: str, netns: str = "", lines: tuple[str, ...]) -> list[Any]:
    """Run commands of ``ip`` or ``tc`` in one process; gives the JSON of each."""
    where = ("-n", netns) if netns else ()
    text = run(program, *where, *flags, "-j", "-batch", "-", stdin="\n".join(lines) + "\n")
    decoder, documents, at = json.JSONDecoder(), [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        document, at = decoder.raw_decode(text, at)
        documents.append(document)
    if len(documents) != len(lines):
        message = f"{program}: {len(lines)} commands, {len(documents)} answers: {text}"
        raise RuntimeError(message)
    return documents


def namespace(netns: str = "") -> dict[str, Any]:
    """Read one namespace: a container's by name, or the host's."""
    links, routes, rules, neighbours, proxies = batch(
        "ip",
        "-d",
        netns=netns,
        lines=(
            "address show",
            "route show table all",
            "rule show",
            "neigh show nud permanent",
            "neigh show proxy",
        ),
    )
    (rules6,) = batch("ip", "-6", "-d", netns=netns, lines=("rule show",))
    (qdiscs,) = batch("tc", "-d", netns=netns, lines=("qdisc show",))
    ingress = [q["dev"] for q in qdiscs if q["kind"] == "ingress"]
    filters = (
        batch("tc", "-d", netns=netns, lines=tuple(f"filter show dev {dev} parent ffff:" for dev in ingress))
        if ingress
        else []
    )
    state = {
        "links": links,
        "routes": routes,
        "rules": {"inet": rules, "inet6": rules6},
        "neighbours": neighbours + [{**proxy, "proxy": True} for proxy in proxies],
        "qdiscs": qdiscs,
        "filters": dict(zip(ingress, filters, strict=True)),
        "sysctls": within(netns, _sysctls),
    }
    where = ("nsenter", f"--net=/run/netns/{netns}") if netns else ()
    ruleset = json.loads(run(*where, "nft", "-j", "list", "ruleset"))["nftables"]
    state["nft"] = ruleset
    saves = {"iptables": "", "ip6tables": ""}
    if any("table" in entry and entry["table"]["family"] in {"ip", "ip6"} for entry in ruleset):
        saves = {program: run(*where, f"{program}-save") for program in saves}
    return {**state, **saves}


def _sysctls() -> dict[str, str]:
    found = {}
    for top in _SYSCTLS:
        for directory, _, names in os.walk(f"/proc/sys/{top}"):
            for name in names:
                if name in _NOT_SYSCTLS:
                    continue
                path = f"{directory}/{name}"
                try:
                    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                except OSError:  # one that can only be written
                    continue
                try:
                    found[path.removeprefix("/proc/sys/")] = os.read(descriptor, 4096).decode("ascii").strip()
                except OSError:  # one that cannot be read as yet
                    continue
                finally:
                    os.close(descriptor)
    return found


def files() -> dict[str, dict[str, str]]:
    """Read what plugins keep: mode and content of each file and directory."""
    found = {}
    for top in _FILES:
        for directory, _, names in os.walk(top):
            found[directory] = {"mode": oct(os.stat(directory).st_mode)}
            for name in names:
                path = f"{directory}/{name}"
                found[path] = {
                    "mode": oct(os.stat(path).st_mode),
                    "bytes": Path(path).read_bytes().decode("latin-1"),
                }
    return found


def bridge_address_is_set(name: str) -> bool:
    """Say whether a bridge has its MAC address for good, or that of its lowest port."""
    path = Path(f"/sys/class/net/{name}/addr_assign_type")
    return (
        path.exists() and path.read_text(encoding="ascii").strip() == "3"
    )  # NET_ADDR_SET, linux/netdevice.h
