"""vlan: the endpoint has a VLAN of its parent's wire to itself, as an interface that adds and removes the tag.

A parent has one link a VLAN, in whatever namespace (vlan_check_real_dev, net/8021q/vlan.c): so the network has one
endpoint. Several endpoints in one VLAN are a macvlan network whose parent is the VLAN's link, ``eth0.10``.

Source: the objects are those of CNI's plugin ``vlan`` (containernetworking/plugins, plugins/main/vlan/vlan.go).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import msgspec

from dovetail.drivers import carried
from dovetail.drivers.network_options import settle
from dovetail.drivers.options import Given, Option
from dovetail.drivers.parent import WHERE, try_parent
from dovetail.drivers.parent_link import ParentLink
from dovetail.drivers.parent_options import ON_PARENT
from dovetail.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from dovetail.kernel.protocol import Kernel, Link, LinkSettings, LinkSpec, Netns, Vlan
from dovetail.model.addresses import IPAddress
from dovetail.model.attachment import Attachment
from dovetail.model.endpoint import Endpoint
from dovetail.model.names import check_ifname
from dovetail.model.network import Network

__all__ = ["KNOWN", "VlanDriver", "VlanOptions", "read_options"]

KNOWN: Mapping[str, Option] = {
    **{name: option for name, option in ON_PARENT.items() if name != "host_access"},
    "parent": Option("link of the host on whose wire the VLAN is; it is not made here (none, and needed)"),
    "id": Option("number of the VLAN, 1 to 4094; the endpoint is the only one of the host in it (needed)"),
}

_FIRST, _LAST = 1, 4094  # 0 is no VLAN, 4095 is reserved (IEEE 802.1Q §9.6)
_HINT = "give a network card of the host, as `ip link` lists them"


class VlanOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options; mtu 0 is the parent's."""

    parent: str
    id: int
    mtu: int = 0


class VlanDriver(ParentLink):
    """The driver ``vlan``; `OnParent` of the protocol too."""

    name = "vlan"
    summary = "a VLAN of a network card's wire, which no other endpoint of the host is in"
    addressed = True
    is_gateway = False

    def options(self) -> Mapping[str, Option]:
        """Name each option with what it does."""
        return KNOWN

    # -- network ----------------------------------------------------------------------------------

    def plan_network(self, kernel: Kernel, network: Network, store_id: str) -> Network:
        """Look at the parent and at what is on it; reads the kernel only.

        Raises InvalidArgument for a bad option, NotFound for a parent that is missing, Conflict where the VLAN has
        a link already that is none of dovetail's endpoints.
        """
        options = _options(network)
        given = Given(self.name, network.options, KNOWN)
        parent = _find_parent(kernel, options.parent)
        if options.mtu > parent.mtu:
            raise InvalidArgument(
                f"an MTU of {options.mtu} is more than {parent.name!r} has, which is {parent.mtu}",
                where=given.where("mtu"),
                hint="leave it out for the parent's",
            )
        taken = _link_of(kernel, parent, options.id)
        if taken is not None:
            raise Conflict(
                f"VLAN {options.id} of {parent.name} is there, by the name of {taken.name}",
                where=given.where("id"),
                hint=f"give another id, or make a macvlan network with parent={taken.name}",
            )
        network = msgspec.structs.replace(
            network, parent=_vlan(options), parent_made=False, one_endpoint=True, mtu=options.mtu
        )
        return settle(network, given)

    def create_network(self, kernel: Kernel, network: Network, store_id: str, undo: ExitStack) -> None:
        """Make the VLAN's link for a moment, where the network is new, to see that it can be; nothing stays.

        Raises NotFound where the parent is gone, Unsupported where the kernel has no VLANs, Conflict where the VLAN
        has a link in a namespace that cannot be seen.
        """
        self._parent(kernel, network)
        if network.status != "creating":
            return
        carrier = msgspec.structs.replace(network, parent=self._carrier(network))
        try:
            try_parent(kernel, carrier, self._settings(network), store_id, undo)
        except AlreadyExists as exc:
            raise _taken(network, exc) from exc

    def delete_network(self, kernel: Kernel, network: Network) -> None:
        """Remove nothing: the parent was there before."""

    # -- the VLAN, which is nobody else's -----------------------------------------------------------

    def shared_parent(self, network: Network) -> str:
        """Name the VLAN."""
        return _vlan(_options(network))

    def host_addresses(self, network: Network) -> tuple[IPAddress, ...] | None:
        """Give None: the host has no address in the VLAN."""
        return None

    def check_beside(self, kernel: Kernel, network: Network, beside: Sequence[Network]) -> None:
        """Refuse a VLAN that another network has; raises Conflict naming it."""
        options = _options(network)
        for other in beside:
            raise Conflict(
                f"VLAN {options.id} of {options.parent} belongs to the {other.driver} network {other.name!r}",
                where="$.options.id",
                hint="give another id or parent",
            )

    def release_parent(self, kernel: Kernel, network: Network, beside: Sequence[Network]) -> None:
        """Remove nothing."""

    # -- endpoint ---------------------------------------------------------------------------------

    def plan_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Give the endpoint back: it has the MAC that is asked for, else its parent's, and nothing on the host."""
        return endpoint

    def join(
        self,
        kernel: Kernel,
        network: Network,
        endpoint: Endpoint,
        *,
        sandbox: Netns | None,
        ifname: str,
        store_id: str,
        undo: ExitStack,
    ) -> Attachment:
        """Make the link as `ParentLink` does; raises Conflict where the VLAN has one, or the parent is down."""
        parent = self._parent(kernel, network)
        if not parent.up:
            raise Conflict(
                f"{parent.name!r}, the parent of network {network.name!r}, is down, and no VLAN of it can be up",
                hint=f"run: ip link set {parent.name} up",
            )
        return super().join(
            kernel, network, endpoint, sandbox=sandbox, ifname=ifname, store_id=store_id, undo=undo
        )

    def _add_link(self, kernel: Kernel, network: Network, spec: LinkSpec, parent: Link) -> None:
        try:
            carried.add_patiently(kernel, spec, self._settings(network), parent.name)
        except AlreadyExists as exc:
            raise _taken(network, exc) from exc

    def _carrier(self, network: Network) -> str:
        return _options(network).parent

    def _settings(self, network: Network) -> LinkSettings:
        return Vlan(_options(network).id)

    def _has_own_mac(self, network: Network) -> bool:
        return False


def read_options(options: Mapping[str, str], *, ipv6: bool = False) -> VlanOptions:
    """Read `options`; raises InvalidArgument at ``$.options.KEY``, see `Given`."""
    given = Given("vlan", options, KNOWN)
    for name in ("parent", "id"):
        if not given.text(name):
            raise InvalidArgument(
                f"a vlan network needs the option {name!r}",
                where=given.where(name),
                hint="give -o parent=LINK -o id=NUMBER",
            )
    return VlanOptions(
        parent=check_ifname(given.text("parent"), where=given.where("parent")),
        id=given.number("id", _FIRST, _LAST),
        mtu=given.mtu(ipv6=ipv6),
    )


def _options(network: Network) -> VlanOptions:
    return _remembered(tuple(network.options.items()), 6 in network.versions)


def _vlan(options: VlanOptions) -> str:
    """Name a VLAN as the link is named that a macvlan network on it would ask for: it is what others share or not."""
    return f"{options.parent}.{options.id}"


@functools.lru_cache(maxsize=256)
def _remembered(options: tuple[tuple[str, str], ...], ipv6: bool) -> VlanOptions:
    return read_options(dict(options), ipv6=ipv6)


def _find_parent(kernel: Kernel, name: str) -> Link:
    if name == "lo":
        raise InvalidArgument("'lo' leads nowhere: no VLAN can be on it", where=WHERE, hint=_HINT)
    there = kernel.link(name)
    if there is None:
        raise NotFound("interface", name, where=WHERE, hint=_HINT)
    if there.name != name:
        raise InvalidArgument(
            f"{name!r} is another name of {there.name}", where=WHERE, hint=f"give {there.name}"
        )
    if not there.mac:
        raise InvalidArgument(f"{name!r} is no Ethernet interface, and VLANs are on such only", where=WHERE)
    return there


def _link_of(kernel: Kernel, parent: Link, number: int) -> Link | None:
    """Find the link of VLAN `number` of `parent` in the host's namespace."""
    for link in kernel.links():
        on_parent = link.parent_ifindex == parent.ifindex and not link.parent_abroad
        if on_parent and link.kind == "vlan" and link.settings == Vlan(number):
            return link
    return None


def _taken(network: Network, refused: AlreadyExists) -> Conflict:
    """Say what the kernel's EEXIST means; a name that is taken in the sandbox is that."""
    if refused.kind != "VLAN":
        return refused
    options = _options(network)
    return Conflict(
        f"VLAN {options.id} of {options.parent} has a link already, which is none of dovetail's",
        hint="find it in the namespaces of other programs, and remove it: ip -d link show type vlan",
    )
