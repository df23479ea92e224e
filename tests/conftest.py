"""Fixtures shared by all tiers. Tests that change the kernel do so in a namespace that plays the host."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """The namespace that plays the host: the test's own thread is in it, and so is what it starts."""

    def run(self, *command: str, check: bool = True, stdin: str = "") -> str:
        """Run a program in the host's namespace and give its standard output."""
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode != 0:
            message = f"{' '.join(command)}: exit {done.returncode}: {done.stderr}{done.stdout}"
            raise AssertionError(message)
        return done.stdout

    def ip(self, *args: str, netns: str = "") -> Any:
        """Run ``ip -j -d`` and give its JSON; `netns` is a path, entered with nsenter."""
        prefix = ("nsenter", f"--net={netns}") if netns else ()
        return json.loads(self.run(*prefix, "ip", "-j", "-d", *args) or "[]")

    def nft(self, *args: str) -> Any:
        """Run ``nft -j`` and give the list under ``nftables``."""
        return json.loads(self.run("nft", "-j", *args))["nftables"]

    def links(self, netns: str = "") -> dict[str, Any]:
        """Give the links by name, as ``ip -j -d link`` has them."""
        return {link["ifname"]: link for link in self.ip("link", "show", netns=netns)}


def wait_for(condition: Callable[[], object], *, timeout_s: float = 10.0, what: str = "") -> None:
    """Poll `condition` until it is true; never sleeps longer than it must."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            message = f"not within {timeout_s} s: {what or condition}"
            raise AssertionError(message)
        time.sleep(0.01)


@pytest.fixture
def host() -> Iterator[Host]:
    """Enter a fresh network namespace that plays the host; leave it (and let it die) afterwards."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield Host()
    finally:
        if _libc.setns(before, _CLONE_NEWNET) != 0:
            os._exit(70)  # going on in the wrong namespace would change the real host
        os.close(before)
