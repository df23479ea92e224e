"""What a host has of the things that a network tool might leave: to compare before and after."""

from __future__ import annotations

import glob
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

__all__ = ["Footprint"]

_TIMEOUT_S = 10
_OURS = ("dovetail", "dv-", "dvh", "dvc")
_SHARED = ("cgroup ", "mount ")  # another demonstration may run at the same time, and has its own mark


@dataclass(frozen=True)
class Footprint:
    """Sets of words, a set a kind. Reads only."""

    WORDS: ClassVar[str] = (
        "no link, namespace, nftables table, mount, cgroup or file in /run came from the demonstration"
    )

    things: frozenset[str]

    @classmethod
    def of_host(cls) -> Footprint:
        """Look at the namespaces this process is in."""
        return cls(frozenset(_look()))

    def beyond(self, before: Footprint, *, mark: str) -> list[str]:
        """Say what is here that was not `before` and bears our names or `mark`.

        Anything else that came meanwhile came from somebody else.
        """
        name = os.path.basename(mark)
        new = sorted(self.things - before.things)
        return [
            thing
            for thing in new
            if name in thing or (not thing.startswith(_SHARED) and any(word in thing for word in _OURS))
        ]


def _look() -> Iterator[str]:
    yield from (f"link {name}" for name in os.listdir("/sys/class/net"))
    yield from (f"namespace {path}" for path in glob.glob("/run/netns/*"))
    yield from (f"table {line}" for line in _output("nft", "list", "tables"))
    yield from (f"rule {line}" for line in _output("iptables", "-S") if "dovetail" in line.lower())
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    yield from (f"mount {line.split()[4]}" for line in mounts)
    yield from (f"file {path}" for path in glob.glob("/run/*") + glob.glob("/run/docker/plugins/*"))
    cgroups = glob.glob("/sys/fs/cgroup/dovetail*") + glob.glob("/sys/fs/cgroup/*/dovetail*")
    yield from (f"cgroup {path}" for path in cgroups)


def _output(*command: str) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []
