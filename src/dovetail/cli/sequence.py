"""The trace as a textbook has it: the calls that belong to one operation, numbered, under the operation's name.

dockerd never says which of its calls belong together; they are told by what they name. RequestPool, RequestAddress for
the gateway and CreateNetwork are a ``docker network create``; RequestAddress, CreateEndpoint, Join and
ProgramExternalConnectivity are a container that joins; Revoke, Leave, DeleteEndpoint and ReleaseAddress one that leaves. What
came by another face is one operation already, and its parts are those of the engine: IPAM, driver, features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

import msgspec

from dovetail.engine.trace import Step

__all__ = ["Operation", "commands", "operations", "parts"]

_TOGETHER_S = 5.0
"""How long after the last call of an operation another one may still belong to it: dockerd retries for 15 s at most."""

_Kind: TypeAlias = Literal["create", "join", "leave", "remove", "other"]
_PARTS = frozenset({"ipam", "driver", "feature"})
_OF_ENDPOINT: dict[str, _Kind] = {
    "Join": "join",
    "ProgramExternalConnectivity": "join",
    "RevokeExternalConnectivity": "leave",
    "Leave": "leave",
    "DeleteEndpoint": "leave",
}
_ABOUT = frozenset({"CreateNetwork", "DeleteNetwork", "CreateEndpoint", "DeleteEndpoint", "Join", "Leave"})
"""Calls that name what an operation is about."""
_WAY_OUT_CHANGES = frozenset(
    {
        ("Join", "RevokeExternalConnectivity"),
        ("RevokeExternalConnectivity", "ProgramExternalConnectivity"),
        ("Leave", "ProgramExternalConnectivity"),
    }
)
_REMOVES = frozenset({"ReleaseAddress", "ReleasePool", "DeleteNetwork"})


class Operation(msgspec.Struct, kw_only=True):
    """One operation: its calls (Docker) or parts (other faces), in the order they began."""

    kind: _Kind
    title: str = ""
    started: float = 0.0
    steps: list[Step] = []

    @property
    def ended(self) -> float:
        """When its last call ended, in seconds since the epoch."""
        return max(step.started + step.duration_ms / 1000 for step in self.steps)


def operations(roots: Iterable[Step]) -> list[Operation]:
    """Sort finished root steps, oldest first, into operations."""
    sorter = _Sorter()
    for step in sorted(roots, key=lambda step: step.started):
        sorter.take(step)
    return [group.finish() for group in sorter.groups]


class _Group:
    def __init__(self, kind: _Kind, started: float) -> None:
        self.operation = Operation(kind=kind, started=started, steps=[])
        self.names: set[str] = set()
        """What its calls have named: subnets, addresses, endpoints."""
        self.closed = False

    def finish(self) -> Operation:
        self.operation.title = _title(self.operation)
        return self.operation


class _Sorter:
    def __init__(self) -> None:
        self.groups: list[_Group] = []
        self._addresses: dict[str, set[str]] = {}

    def take(self, step: Step) -> None:
        """Put one root step where it belongs."""
        if step.layer != "docker":
            group = self._new("other", step)
        else:
            group = self._place(step, step.name.partition(".")[2])
        group.operation.steps.append(step)

    def _place(self, step: Step, method: str) -> _Group:
        if method in _OF_ENDPOINT:
            return self._of_endpoint(_OF_ENDPOINT[method], step)
        if method in _REMOVES:
            return self._released(step, last=method == "DeleteNetwork")
        match method:
            case "RequestAddress":
                return self._address(step)
            case "CreateEndpoint":
                return self._endpoint(step)
            case "EndpointOperInfo":  # asked in any operation, about endpoints that have no part in it
                return self._latest(step) or self._new("other", step)
            case _:  # activation, capabilities, RequestPool, CreateNetwork
                group = self._going_on("create", step)
                group.closed = method == "CreateNetwork"
                return group

    def _address(self, step: Step) -> _Group:
        creating = self._find("create", step)
        if step.detail.get("type") == "gateway":
            return creating or self._new("create", step)
        if creating is not None and any(_of_pool(step, other) for other in creating.operation.steps):
            return creating  # an auxiliary address
        waiting = self._find("join", step)
        if waiting is None or waiting.operation.steps[-1].name != step.name or len(waiting.names) > 1:
            waiting = self._new("join", step)  # else it is the other family's of the same endpoint
        waiting.names.add(_bare(step.detail.get("answer", step.detail.get("address", ""))))
        return waiting

    def _endpoint(self, step: Step) -> _Group:
        words = f"{step.detail.get('address', '')} {step.detail.get('answer', '')}".split()
        held = {_bare(word) for word in words if "/" in word}
        group = self._find("join", step, held) or self._new("join", step)
        endpoint = step.detail.get("endpoint", "")
        self._addresses[endpoint] = held
        group.names.add(endpoint)
        return group

    def _released(self, step: Step, *, last: bool) -> _Group:
        leaving = self._find("leave", step, {step.detail.get("address", "")})
        if leaving is not None:
            return leaving
        group = self._going_on("remove", step)
        group.closed = last
        return group

    def _of_endpoint(self, kind: _Kind, step: Step) -> _Group:
        """Find the joining or leaving of the endpoint that `step` names.

        When another network becomes a container's way out, its ports are revoked here and programmed there, in the
        midst of the operation that made it so.
        """
        endpoint = step.detail.get("endpoint", "")
        latest = self._latest(step)
        if latest is not None and endpoint not in latest.names:
            before = latest.operation.steps[-1].name.partition(".")[2]
            if (before, step.name.partition(".")[2]) in _WAY_OUT_CHANGES:
                return latest
        group = self._find(kind, step, {endpoint})
        if group is None:
            group = self._new(kind, step)
            group.names |= {endpoint} | self._addresses.get(endpoint, set())
        return group

    def _going_on(self, kind: _Kind, step: Step) -> _Group:
        return self._find(kind, step) or self._new(kind, step)

    def _find(self, kind: _Kind, step: Step, names: set[str] | None = None) -> _Group | None:
        """Give the latest operation of `kind` that is still going on and has named one of `names`."""
        for group in reversed(self.groups):
            going_on = not group.closed and step.started - group.operation.ended < _TOGETHER_S
            if group.operation.kind == kind and going_on and (names is None or names & group.names):
                return group
        return None

    def _latest(self, step: Step) -> _Group | None:
        """Give the latest operation of Docker's, if it may still be going on."""
        for group in reversed(self.groups):
            if group.operation.steps[-1].layer == "docker":
                return group if step.started - group.operation.ended < _TOGETHER_S else None
        return None

    def _new(self, kind: _Kind, step: Step) -> _Group:
        group = _Group(kind, step.started)
        self.groups.append(group)
        return group


def _bare(address: str) -> str:
    return address.partition("/")[0]


def _of_pool(step: Step, other: Step) -> bool:
    """Say whether an address request is about the pool that `other`, a RequestPool, was given."""
    subnet = other.detail.get("answer", "")
    return other.name.endswith("RequestPool") and bool(subnet) and subnet in step.detail.get("pool", "")


def _title(operation: Operation) -> str:
    first = operation.steps[0]
    about = [step for step in operation.steps if step.name.partition(".")[2] in _ABOUT]
    told = (about or operation.steps)[0].detail
    network, endpoint = told.get("network", ""), told.get("endpoint", "")
    methods = {step.name.partition(".")[2] for step in operation.steps}
    match operation.kind:
        case "create" if "CreateNetwork" in methods:
            return f"docker network create: network {network}"
        case "create":
            return "dockerd starts, or meets dovetail for the first time"
        case "join":
            return f"docker run or network connect: endpoint {endpoint} joins network {network}"
        case "leave":
            return f"docker stop or network disconnect: endpoint {endpoint} leaves network {network}"
        case "remove":
            return f"docker network rm{': network ' + network if network else ''}"
        case _:
            words = " ".join(f"{key}={value}" for key, value in first.detail.items() if value)
            return f"{first.layer} {first.name}{'  ' + words if words else ''}"


def parts(operation: Operation) -> Iterator[Step]:
    """Give what an operation is drawn with: Docker's calls, or the parts of the one step of another face."""
    for step in operation.steps:
        if step.layer == "docker":
            yield step
        else:
            found = list(_parts(step))
            yield from found or [step]


def _parts(step: Step) -> Iterator[Step]:
    for child in step.children:
        if child.layer in _PARTS:
            yield child
        else:
            yield from _parts(child)


def commands(step: Step) -> Iterator[str]:
    """Give what a step asked of the kernel, each as the command it equals, the first line of one with several."""
    for child in step.children:
        yield from commands(child)
    command = step.detail.get("command", "")
    for line in command.split(" ; ") if command else ():
        first, _, more = line.partition("\n")
        yield f"{first} …" if more else first
