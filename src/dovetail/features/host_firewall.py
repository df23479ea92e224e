"""Whatever other firewall the host has: room for our networks in it, and its policy where we turn forwarding on."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dovetail.features.coexistence import accept_forwarding, withdraw_forwarding
from dovetail.features.firewalld import Firewalld
from dovetail.kernel.protocol import Kernel
from dovetail.model.network import Network

__all__ = ["HostFirewall"]

_PROGRAMS = {4: "iptables", 6: "ip6tables"}


class HostFirewall:
    """iptables, whoever has rules there, and firewalld.

    keep_policy: leave the policy of FORWARD as it is, whatever comes. docker: there is a Docker Engine, whatever
    programs are seen from here; else it is one whose program is installed.
    """

    def __init__(self, *, keep_policy: bool = False, docker: bool = False) -> None:
        self._keep_policy = keep_policy
        self._docker = docker
        self._firewalld = Firewalld()

    def close(self, kernel: Kernel, version: int) -> bool:
        """Have the host drop what it forwards, before its forwarding of IP `version` is turned on, where Docker relies on it.

        True where it did not drop before. A Docker Engine before version 28 keeps unpublished ports closed by the
        policy of FORWARD alone, and sets it to DROP only when it turns forwarding on itself. Where we come first, it
        would leave it at ACCEPT.
        Source: setupIPForwarding, moby ``libnetwork/drivers/bridge/setup_ip_forwarding.go``.
        """
        program = _PROGRAMS[version]
        if self._keep_policy or kernel.forward_policies().get(program):
            return False
        if not (self._docker or kernel.has_program("dockerd")):
            return False
        return kernel.iptables(program, "-P", "FORWARD", "DROP")

    def open(self, kernel: Kernel, version: int) -> None:
        """Take `close` back."""
        kernel.iptables(_PROGRAMS[version], "-P", "FORWARD", "ACCEPT")

    def accept(self, kernel: Kernel, networks: Sequence[Network], links: Collection[str] = ()) -> None:
        """Have `networks` and what goes by `links`, which are all there are, pass. Idempotent."""
        accept_forwarding(kernel, [*(network.link for network in networks if network.link), *sorted(links)])
        self._firewalld.accept(kernel, networks, links)

    def release(self, kernel: Kernel, network: Network) -> None:
        """Take back what was done for `network` alone."""
        self._firewalld.release(kernel, network)

    def withdraw(self, kernel: Kernel) -> None:
        """Take back what was done for all; the policy stays, as others may rely on it by then."""
        withdraw_forwarding(kernel)
