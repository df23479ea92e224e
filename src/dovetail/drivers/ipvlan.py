"""ipvlan: each endpoint is behind its parent's MAC address, told apart by its IP addresses.

In mode l2 it is on the parent's wire as a macvlan is. In l3 and l3s the host routes between the wire and the
endpoints: those have no gateway but a default route on the link, and the wire needs a route to the host.
Source: Documentation/networking/ipvlan.rst.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import cast, get_args

import msgspec

from dovetail.drivers.on_parent import OnParentDriver
from dovetail.drivers.options import Given, Option
from dovetail.drivers.parent import WHERE
from dovetail.drivers.parent_options import ON_PARENT, ParentOptions, read_parent_options
from dovetail.errors import Conflict
from dovetail.kernel.protocol import Ipvlan, IpvlanFlag, IpvlanMode, Kernel
from dovetail.model.addresses import EVERYWHERE
from dovetail.model.attachment import Route
from dovetail.model.network import Network

__all__ = ["KNOWN", "IpvlanDriver", "read_options"]

KNOWN: Mapping[str, Option] = {
    **ON_PARENT,
    "mode": Option(
        "l2: endpoints are on the parent's wire; l3 and l3s: the host routes to them, there is no gateway, no broadcast"
        " and no multicast, and the wire needs a route to the host; l3s passes the host's firewall too (l2)",
        ("ipvlan_mode",),
    ),
    "flag": Option(
        "bridge: endpoints reach each other directly; vepa: by a switch or router out there that sends their packets"
        " back; private: not at all (bridge)",
        ("ipvlan_flag",),
    ),
}


class IpvlanDriver(OnParentDriver):
    """The driver ``ipvlan``."""

    name = "ipvlan"
    summary = "an interface on a network card's wire, with the card's MAC address"
    _dummy = "di"

    def options(self) -> Mapping[str, Option]:
        """Name each option with what it does and Docker's names for it."""
        return KNOWN

    def plan_network(self, kernel: Kernel, network: Network, store_id: str) -> Network:
        """Decide as `OnParentDriver` does, and in l3 and l3s the endpoints' default routes: on the link, to the host."""
        planned = super().plan_network(kernel, network, store_id)
        if not _is_routed(self._options(network)) or planned.internal:
            return planned
        versions = sorted({subnet.subnet.version for subnet in planned.subnets})
        given = {route.destination for route in planned.routes}
        ways_out = [Route(destination=EVERYWHERE[v]) for v in versions if EVERYWHERE[v] not in given]
        return msgspec.structs.replace(planned, routes=(*planned.routes, *ways_out))

    def _options(self, network: Network) -> ParentOptions:
        ipv6 = any(subnet.subnet.version == 6 for subnet in network.subnets)
        return _remembered(tuple(network.options.items()), ipv6)

    def _check_settings(self, mine: ParentOptions, theirs: ParentOptions, other: Network) -> None:
        if mine.settings != theirs.settings:  # the kernel has them by parent: the last would change all
            there = theirs.settings
            flag = f" with flag {there.flag}" if isinstance(there, Ipvlan) else ""
            raise Conflict(
                f"network {other.name!r} has {mine.parent!r} in mode {there.mode}{flag}, and a parent has one mode"
                " and flag for all",
                where=WHERE,
                hint="give the same mode and flag, or another parent",
            )


def _is_routed(options: ParentOptions) -> bool:
    return isinstance(options.settings, Ipvlan) and options.settings.mode != "l2"


def read_options(options: Mapping[str, str], *, ipv6: bool = False) -> ParentOptions:
    """Read `options`; raises InvalidArgument at ``$.options.KEY``, see `Given`."""
    given = Given("ipvlan", options, KNOWN)
    mode = given.choice("mode", get_args(IpvlanMode), "l2")
    flag = given.choice("flag", get_args(IpvlanFlag), "bridge")
    settings = Ipvlan(cast("IpvlanMode", mode), cast("IpvlanFlag", flag))
    return read_parent_options(given, settings, ipv6=ipv6)


@functools.lru_cache(maxsize=256)
def _remembered(options: tuple[tuple[str, str], ...], ipv6: bool) -> ParentOptions:
    return read_options(dict(options), ipv6=ipv6)
