"""The packet filter's side of `LinuxKernel`: nftables, the host's other firewall, connection tracking, ports."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property, partial

from dovetail.kernel import conntrack, netns, sockets
from dovetail.kernel.commands import describe, element_lines
from dovetail.kernel.linux_handle import LinuxHandle
from dovetail.kernel.netlink import RefusedError, SocketPool
from dovetail.kernel.nfnetlink import NFPROTO_IPV4, NFPROTO_IPV6, drops, get_chain
from dovetail.kernel.nft_table import NftTable
from dovetail.kernel.protocol import TableState
from dovetail.kernel.refusals import ABSENT, explain
from dovetail.model.addresses import IPAddress
from dovetail.model.element import Element

__all__ = ["LinuxFirewall"]

_NETLINK_NETFILTER = 12  # include/uapi/linux/netlink.h; Python 3.11 has no name for it
_TABLE = "dovetail"
_FIREWALLS = {"iptables": NFPROTO_IPV4, "ip6tables": NFPROTO_IPV6}


class LinuxFirewall(LinuxHandle):
    """Those verbs in the namespace `home`, which must stay open as long."""

    # what a handle to a sandbox, made for a few messages, mostly does without

    @cached_property
    def _netfilter(self) -> SocketPool:
        return SocketPool(partial(self._home.open_netlink, _NETLINK_NETFILTER))

    @cached_property
    def _table(self) -> NftTable:
        return NftTable(self._netfilter, _TABLE)

    def close(self) -> None:
        """Close its own sockets; nothing of the kernel's state changes. Those of rtnetlink are the namespace's."""
        if "_netfilter" in self.__dict__:
            self._netfilter.close()

    # -- nftables ---------------------------------------------------------------------------------

    def nft_apply(self, ruleset: str, elements: Collection[Element] = ()) -> None:
        """Apply text and elements as one transaction; runs ``nft``."""
        from dovetail.kernel.programs import nft_apply

        with netns.entered(self._home):
            nft_apply("\n".join([ruleset, *element_lines("add", elements), ""]))
        self._table.forget()

    def nft_check(self, ruleset: str) -> str:
        """Say what is wrong with text; runs ``nft``."""
        from dovetail.kernel.programs import nft_check

        with netns.entered(self._home):
            return nft_check(ruleset)

    def nft_has_table(self, name: str = _TABLE) -> bool:
        """Say whether ``table inet NAME`` is there."""
        return (self._table if name == _TABLE else NftTable(self._netfilter, name)).exists()

    def nft_table(self, name: str = _TABLE) -> TableState | None:
        """Say what it is now; see `NftTable.state`."""
        return (self._table if name == _TABLE else NftTable(self._netfilter, name)).state()

    def nft_add_elements(self, elements: Collection[Element]) -> None:
        """Add elements; see `NftTable.add`."""
        self._table.add(elements)

    def nft_delete_elements(self, elements: Collection[Element]) -> None:
        """Delete elements by key; see `NftTable.delete`."""
        self._table.delete(elements)

    def nft_elements(self) -> set[Element]:
        """Read every element."""
        return self._table.elements()

    def nft_missing(self, elements: Collection[Element]) -> set[Element]:
        """Look elements up; see `NftTable.missing`."""
        return self._table.missing(elements)

    # -- the host's other firewall, connection tracking, sockets ----------------------------------

    def forward_policies(self) -> dict[str, bool]:
        """Say whether ``ip`` and ``ip6 filter FORWARD`` drop, of iptables-nft and of the legacy one, where it is used."""
        from dovetail.kernel.programs import legacy_policies, nft_program

        with netns.entered(self._home):
            policies = legacy_policies(_FIREWALLS)
        with self._netfilter.borrow() as netlink:
            for name, family in _FIREWALLS.items():
                program = nft_program(name)
                try:
                    policy = drops(netlink.request(get_chain(family, "filter", "FORWARD")))
                except RefusedError as exc:
                    if exc.refusal.errno in ABSENT:
                        continue
                    raise explain(exc.refusal, f"{program} -S FORWARD") from exc
                if policy is not None:
                    policies[program] = policy
        return policies

    def iptables(self, program: str, *args: str) -> bool:
        """Run ``iptables`` or ``ip6tables`` in this namespace."""
        from dovetail.kernel.programs import iptables

        with netns.entered(self._home):
            return iptables(program, *args)

    def has_program(self, name: str) -> bool:
        """Look where programs are, and where root's are."""
        from dovetail.kernel.programs import has_program

        return has_program(name)

    def firewalld_zone(self, zone: str) -> frozenset[str]:
        """Ask firewalld, which is one for the whole machine."""
        from dovetail.kernel.programs import firewalld_zone

        return firewalld_zone(zone)

    def firewall_cmd(self, *args: str) -> bool:
        """Have firewalld change something."""
        from dovetail.kernel.programs import firewall_cmd

        return firewall_cmd(*args)

    def flush_conntrack(self, protocol: str, *, port: int = 0, address: IPAddress | None = None) -> None:
        """Forget flows of `protocol` with this original destination port and this reply source, where given."""
        with self._netfilter.borrow() as netlink:
            refusal = conntrack.flush(netlink, conntrack.Flows(protocol, port, address))
        if refusal is not None:
            command = describe("flush_conntrack", protocol, port=port, address=address)[0]
            raise explain(refusal, command)

    def port_is_free(self, protocol: str, address: IPAddress | None, port: int) -> bool:
        """Say whether `port` could be bound in this namespace."""
        with netns.entered(self._home):
            return sockets.port_is_free(protocol, address, port)
