"""The whole of a host at a quiet moment, so that two moments can be compared; and how long the long forms take.

Both tests here have a short form, which ``make test`` runs, and a long one: ``make soak``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

_VOLATILE = ("handle", "counter", "packets", "bytes")


@dataclass(frozen=True)
class Footprint:
    """What dovetail, Docker and the kernel have: of networks, endpoints, addresses, links, namespaces and rules."""

    store: dict[str, Any]
    links: list[str]
    mounts: list[str]
    ruleset: list[str]
    docker: dict[str, list[str]]

    def differences(self, later: Footprint) -> list[str]:
        """Say, a line each, what is different `later`; nothing is empty."""
        found = [
            f"{name}: {before} before, {after} after"
            for part in ("store", "docker")
            for name, before in getattr(self, part).items()
            if before != (after := getattr(later, part)[name])
        ]
        for part in ("links", "mounts", "ruleset"):
            before, after = set(getattr(self, part)), set(getattr(later, part))
            found += [f"{part}: {one} is left over" for one in sorted(after - before)]
            found += [f"{part}: {one} is lost" for one in sorted(before - after)]
        return found

    def counts(self) -> str:
        """Write the counts in a line."""
        words = {**{name: len(rows) for name, rows in self.store.items()}, "links": len(self.links)}
        words |= {"mounted namespaces": len(self.mounts), "entries of nftables": len(self.ruleset)}
        return ", ".join(f"{number} {name}" for name, number in words.items())


def _footprint(docker: Any, dovetail: Any) -> Footprint:
    host = docker.host
    nouns = {"networks": "network", "endpoints": "endpoint", "sandboxes": "sandbox", "pools": "pool"}
    store = {plural: _rows(dovetail.json(noun, "ls")) for plural, noun in nouns.items()}
    mounts = host.run("cat", "/proc/mounts")
    ruleset = json.loads(host.run("nft", "-j", "list", "ruleset"))["nftables"]
    return Footprint(
        store=store,
        links=sorted(host.links()),
        # dockerd removes the empty file that a namespace was mounted on once a minute, so the mount counts
        mounts=sorted(line.split()[1] for line in mounts.splitlines() if line.split()[2] == "nsfs"),
        ruleset=sorted(line for entry in ruleset for line in _lines(entry)),
        docker={
            "containers": docker("ps", "-aq").split(),
            "networks": sorted(docker("network", "ls", "-q").split()),
        },
    )


def _rows(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def _lines(entry: dict[str, Any]) -> list[str]:
    """Write an entry of nftables' ruleset as a line, and each element of a set or a map as one of its own."""
    kind, body = next(iter(entry.items()))
    elements = body.pop("elem", [])
    name = " ".join(str(body.get(key, "")) for key in ("family", "table", "name"))
    lines = [] if kind == "metainfo" else [json.dumps({kind: _lasting(body)}, sort_keys=True)]
    return lines + [f"element of {name}: {json.dumps(_lasting(element))}" for element in elements]


def _lasting(entry: Any) -> Any:
    """Leave out what differs between two looks at the same."""
    if isinstance(entry, dict):
        return {key: _lasting(value) for key, value in entry.items() if key not in _VOLATILE}
    if isinstance(entry, list):
        return [_lasting(value) for value in entry]
    return entry


@pytest.fixture
def footprint(docker: Any, dovetail_daemon: Any) -> Callable[[], Footprint]:
    """Give what takes the `Footprint` of now."""
    return lambda: _footprint(docker, dovetail_daemon)


@pytest.fixture
def minutes() -> float | None:
    """How long the long forms are to run, ``SOAK_MINUTES``; None for the short forms."""
    text = os.environ.get("SOAK_MINUTES", "")
    return float(text) if text else None


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Give what prints a line although pytest keeps the output of tests that pass."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", flush=True)

    return say
