"""Put an interface into a VRF of its namespace, as CNI's type ``vrf`` has it.

The VRF is made for its first interface and goes with its last. The kernel takes an interface down and up again when it
gets a master or loses one (cycle_netdev, drivers/net/vrf.c): so IPv6 addresses and routes are lost, which are put
back, the routes into the VRF's table.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from typing import Literal, NamedTuple

import msgspec

from dovetail.errors import AlreadyExists, Conflict, NotFound
from dovetail.kernel.netns_lock import locked
from dovetail.kernel.protocol import Kernel, KernelRoute, Link, LinkSpec, Netns, Vrf
from dovetail.model.addresses import IPInterface
from dovetail.model.endpoint import Owner
from dovetail.model.vrf_port import VrfPort

__all__ = ["VrfPorts"]

_MAIN = 254  # RT_TABLE_MAIN, include/uapi/linux/rtnetlink.h, as the others
_NOT_FREE = frozenset({_MAIN, 253, 255})  # RT_TABLE_DEFAULT, RT_TABLE_LOCAL
_RTPROT_KERNEL = 2  # the same: a route that comes with an address
_V6 = 6


class _Before(NamedTuple):
    """What the interface had: IPv6 addresses, and routes that came with no address."""

    addresses: tuple[IPInterface, ...]
    routes: tuple[KernelRoute, ...]


class VrfPorts:
    """The kind of part ``vrf``."""

    name = "vrf"
    layer: Literal["feature"] = "feature"
    detail = VrfPort

    def make(
        self,
        kernel: Kernel,
        detail: VrfPort,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> VrfPort:
        """Make the VRF where it is missing, and put the interface into it; gives `detail` with the table.

        Kernel changes: in the sandbox's namespace, which is locked meanwhile. Raises Conflict where the VRF's name is
        another link's, it has another table, or the interface has a master; Unsupported where the kernel has no VRFs.
        """
        if netns is None:
            raise NotFound("namespace", owner.container)
        with locked(netns), kernel.inside(netns) as inner:
            port = inner.link(detail.ifname)
            if port is None:
                raise NotFound("interface", detail.ifname, hint="the plugin before this one makes it")
            if port.master:
                _refuse_master(inner, port)
            undo.callback(_drop_if_empty, kernel, netns, detail.vrf)
            table = _vrf(inner, detail)
            before = _before(inner, detail.ifname)
            undo.callback(_leave, kernel, netns, detail, before)
            inner.set_link(detail.ifname, master=detail.vrf)
            _give_back(inner, detail.ifname, before, table)
        return msgspec.structs.replace(detail, table=table)

    def unmake(self, kernel: Kernel, detail: VrfPort, *, owner: Owner, netns: Netns | None) -> None:
        """Take the interface out, and the VRF away with its last one."""
        if netns is None:
            return
        with locked(netns), kernel.inside(netns) as inner:
            vrf, port = inner.link(detail.vrf), inner.link(detail.ifname)
            if vrf is None or vrf.kind != "vrf":
                return
            if port is not None and port.master == vrf.ifindex:
                inner.set_link(detail.ifname, master="")
            _delete_empty(inner, detail.vrf)

    def differences(self, kernel: Kernel, detail: VrfPort, *, owner: Owner, netns: Netns | None) -> list[str]:
        """Compare the VRF, its table, and whose port the interface is."""
        if netns is None:
            return []
        with kernel.inside(netns) as inner:
            vrf, port = inner.link(detail.vrf), inner.link(detail.ifname)
        if vrf is None or vrf.kind != "vrf":
            return [f"VRF {detail.vrf!r} is gone"]
        found = []
        table = _table(vrf)
        if detail.table not in {0, table}:
            found.append(f"VRF {detail.vrf!r} has table {table}, not {detail.table}")
        if port is None:
            found.append(f"interface {detail.ifname!r} is gone from the sandbox")
        elif port.master != vrf.ifindex:
            found.append(f"interface {detail.ifname!r} is not in VRF {detail.vrf!r}")
        return found


def _vrf(inner: Kernel, detail: VrfPort) -> int:
    """Make sure of the VRF; gives its table."""
    there = inner.link(detail.vrf)
    if there is None:
        table = detail.table or _free_table(inner)
        inner.add_link(LinkSpec(detail.vrf, up=True), Vrf(table))
        return table
    if there.kind != "vrf":
        raise Conflict(
            f"{detail.vrf!r} is a {there.kind or 'network card'}, not a VRF",
            where="$.vrfname",
            hint="name another",
        )
    table = _table(there)
    if detail.table not in {0, table}:
        raise Conflict(
            f"VRF {detail.vrf} already exist with different routing table {table}",
            where="$.table",
            hint="leave the table out, or name another VRF",
        )
    return table


def _table(vrf: Link) -> int:
    return vrf.settings.table if isinstance(vrf.settings, Vrf) else 0


def _free_table(inner: Kernel) -> int:
    """Give the first table that no VRF has, no rule leads to, and that has no route."""
    taken = {_table(link) for link in inner.links()} | {rule.table for rule in inner.routing_rules()}
    taken |= {route.table for route in inner.table_routes()} | _NOT_FREE
    return next(table for table in range(1, len(taken) + 2) if table not in taken)


def _refuse_master(inner: Kernel, port: Link) -> None:
    master = next((link.name for link in inner.links() if link.ifindex == port.master), str(port.master))
    raise Conflict(
        f"interface {port.name} has already a master set: {master}", hint="an interface has one VRF or bridge"
    )


def _before(inner: Kernel, ifname: str) -> _Before:
    addresses = (address for _, address in inner.addresses(ifname) if address.version == _V6)
    routes = (route for route in inner.table_routes(_MAIN) if route.link == ifname)
    return _Before(
        tuple(address for address in addresses if not address.ip.is_link_local),
        tuple(route for route in routes if route.protocol != _RTPROT_KERNEL),
    )


def _give_back(inner: Kernel, ifname: str, before: _Before, table: int) -> None:
    """Give the interface the addresses that it has lost, and its routes in `table`."""
    for address in _missing(before.addresses, {address for _, address in inner.addresses(ifname)}):
        inner.add_address(ifname, address)
    present = {(route[:3], route.priority) for route in inner.table_routes(table)}
    # those on the link first: others lead by them
    for route in sorted(before.routes, key=lambda route: route.gateway is not None):
        if (route[:3], route.priority) in present:
            continue
        try:
            inner.add_route(ifname, route.route(table=table), append=True, source=route.source)
        except AlreadyExists:
            continue


def _missing(wanted: Sequence[IPInterface], present: Collection[IPInterface]) -> list[IPInterface]:
    return [address for address in wanted if address not in present]


def _leave(kernel: Kernel, netns: Netns, detail: VrfPort, before: _Before) -> None:
    """Take an interface out again that had no master, with all that it had."""
    with locked(netns), kernel.inside(netns) as inner:
        port = inner.link(detail.ifname)
        if port is not None and port.master:
            inner.set_link(detail.ifname, master="")
            _give_back(inner, detail.ifname, before, _MAIN)


def _drop_if_empty(kernel: Kernel, netns: Netns, name: str) -> None:
    with locked(netns), kernel.inside(netns) as inner:
        _delete_empty(inner, name)


def _delete_empty(inner: Kernel, name: str) -> None:
    vrf = inner.link(name)
    if vrf is None or vrf.kind != "vrf":
        return
    if not any(link.master == vrf.ifindex for link in inner.links()):
        inner.delete_links([name])
