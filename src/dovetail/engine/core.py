"""What every part of the engine shares: the things it was composed of."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from dovetail.drivers.protocol import Driver
from dovetail.engine.locks import Locks
from dovetail.engine.part_kind import AnyPartKind
from dovetail.engine.report import DockerNetworks
from dovetail.engine.trace import Tracer
from dovetail.errors import NotFound
from dovetail.features.protocol import Feature, HostFirewall, RulesFile
from dovetail.ipam.protocol import IpamDriver
from dovetail.kernel.protocol import Kernel
from dovetail.model.port import PortMapping
from dovetail.store.protocol import Store

__all__ = ["ChoosePorts", "Core"]

ChoosePorts: TypeAlias = Callable[
    [Kernel, Sequence[PortMapping], Collection[PortMapping]], tuple[PortMapping, ...]
]
"""Give the mappings with their host ports chosen, clear of those taken and of the host's sockets; else PortInUse."""


@dataclass(frozen=True, slots=True)
class Core:
    """The composed parts. `assembly.py` builds one; nothing in the engine names a concrete class.

    kernel: a handle on the host's namespace. ruleset: gives the text of the nftables table that
    `features` fill with elements, with lines of the user's in it; user_rules: reads those. choose_ports: from
    `features/portmap.py`. netns_dir: where namespaces that dovetail makes are mounted.
    boot_id: of this boot (/proc/sys/kernel/random/boot_id). docker: asks a Docker Engine for its networks, and for
    the endpoints of those whose ids are given; None where none was made known. Never called while dockerd may
    wait for us, as it would wait for us to wait for it. orphan_grace_s: how long an address that
    Docker asked for may wait for its endpoint before it is taken back. delegate_timeout_s: how long a CNI plugin of
    somebody else's may take, less than the shim waits for us.
    """

    kernel: Kernel
    store: Store
    drivers: Mapping[str, Driver]
    ipams: Mapping[str, IpamDriver]
    part_kinds: Mapping[str, AnyPartKind]
    features: Sequence[Feature]
    ruleset: Callable[[str], str]
    user_rules: Callable[[], Sequence[RulesFile]]
    choose_ports: ChoosePorts
    host_firewall: HostFirewall
    locks: Locks
    netns_dir: str
    boot_id: str
    docker: Callable[[Collection[str]], DockerNetworks] | None = None
    tracer: Tracer = field(default_factory=Tracer)
    orphan_grace_s: float = 60.0
    lock_timeout_s: float = 20.0
    delegate_timeout_s: float = 25.0

    def driver(self, name: str) -> Driver:
        """Look a network driver up by name."""
        try:
            return self.drivers[name]
        except KeyError:
            raise NotFound(
                "network driver", name, hint=f"there are {', '.join(sorted(self.drivers))}"
            ) from None

    def ipam(self, name: str) -> IpamDriver:
        """Look an address driver up by name."""
        try:
            return self.ipams[name]
        except KeyError:
            raise NotFound("IPAM driver", name, hint=f"there are {', '.join(sorted(self.ipams))}") from None

    def part_kind(self, name: str) -> AnyPartKind:
        """Look a kind of part up by name."""
        try:
            return self.part_kinds[name]
        except KeyError:
            raise NotFound("plugin", name, hint=f"there are {', '.join(sorted(self.part_kinds))}") from None

    @staticmethod
    def now() -> float:
        """Seconds since the epoch."""
        return time.time()
