"""What a reconciliation finds, and what it does about it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from dovetail.model.addresses import IPNetwork

__all__ = ["Action", "DockerNetworks", "Finding", "Report"]

Action: TypeAlias = Literal["restore", "release", "remove"]
"""``restore`` puts it back into the kernel, ``release`` gives it back (addresses, pools, what holds them),
``remove`` takes it out of kernel and store."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it should be.

    kind: network, binding, endpoint, link, pool, address, namespace, sandbox or firewall. what: what a person calls
    it. why: the rest of a sentence that begins with it. since: when it was made, in seconds since the epoch; 0 where
    nobody knows.
    """

    action: Action
    kind: str
    what: str
    why: str
    since: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.what}: {self.why}"


class DockerNetworks(msgspec.Struct, frozen=True, kw_only=True):
    """The networks that a Docker Engine says it has, whatever their driver.

    ids: of all of them. subnets: of all of them. endpoints: ids, of the networks that it was asked about.
    """

    ids: frozenset[str] = frozenset()
    subnets: frozenset[IPNetwork] = frozenset()
    endpoints: frozenset[str] = frozenset()


class Report(msgspec.Struct, kw_only=True):
    """What was found, in the order in which it is or was dealt with; and a sentence each for what failed.

    notes: what could not be looked at, and why.
    """

    findings: list[Finding] = []
    failed: list[str] = []
    notes: list[str] = []

    @property
    def restored(self) -> list[str]:
        """A sentence for each thing that is put back."""
        return self._of("restore")

    @property
    def released(self) -> list[str]:
        """A sentence for each thing that is given back."""
        return self._of("release")

    @property
    def removed(self) -> list[str]:
        """A sentence for each thing that is taken away."""
        return self._of("remove")

    def _of(self, action: Action) -> list[str]:
        return [str(finding) for finding in self.findings if finding.action == action]
