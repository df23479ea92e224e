"""The options of a network whose endpoints sit on a link of the host (macvlan, ipvlan)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from dovetail.drivers.network_options import ADDRESSED
from dovetail.drivers.options import Given, Option
from dovetail.errors import InvalidArgument
from dovetail.kernel.protocol import Ipvlan, Macvlan
from dovetail.model.addresses import IPAddress, parse_address
from dovetail.model.names import check_ifname

__all__ = ["ON_PARENT", "ParentOptions", "read_parent_options"]

ON_PARENT: Mapping[str, Option] = {
    **ADDRESSED,
    "mtu": Option(
        "largest packet, in bytes, at most the parent's (the parent's, and follows it)",
        ("com.docker.network.driver.mtu",),
    ),
    "gateway": Option(
        "auto, or none: there is no default route by a gateway. The gateway is a router on the parent's wire, which"
        " only --gateway can name (auto)"
    ),
    "parent": Option(
        "link of the host on whose wire the endpoints are. Where there is no link of that name, eth0.10 is VLAN 10"
        " of eth0, made here and removed with the last network on it. Without a parent the network is internal, on"
        " a dummy link; internal on a parent, it has no default route, and reaches the wire all the same"
    ),
    "host_access": Option(
        "whether the host reaches the endpoints and they the host, which the kernel keeps apart otherwise: true, or"
        " the host's addresses for it, separated by commas. Where none is named and none is reserved by the name"
        " host, one is taken of each subnet. The host's route is to the --ip-range, or else to the subnet (false)"
    ),
}

_WORDS = frozenset({"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False", ""})


class ParentOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options with their defaults filled in; parent empty and mtu 0 leave the choice to the driver.

    settings: what each link on the parent is made with. host_addresses: of those that are named.
    """

    parent: str
    mtu: int
    settings: Macvlan | Ipvlan
    host_access: bool = False
    host_addresses: tuple[IPAddress, ...] = ()


def read_parent_options(given: Given, settings: Macvlan | Ipvlan, *, ipv6: bool) -> ParentOptions:
    """Read what macvlan and ipvlan have in common; raises InvalidArgument at ``$.options.KEY``, see `Given`."""
    parent = given.text("parent")
    if parent:
        check_ifname(parent, where=given.where("parent"))
    named = _addresses(given)
    said = given.text("host_access")
    access = bool(named) or (bool(said) and given.boolean("host_access", default=False))
    return ParentOptions(
        parent=parent,
        mtu=given.mtu(ipv6=ipv6),
        settings=settings,
        host_access=access,
        host_addresses=named,
    )


def _addresses(given: Given) -> tuple[IPAddress, ...]:
    text, where = given.text("host_access"), given.where("host_access")
    if text in _WORDS:
        return ()
    if not any(sign in text for sign in ".:"):
        raise InvalidArgument(
            f"{text!r} is neither true, false nor an address",
            where=where,
            hint="write it as true, or 10.0.0.250",
        )
    found = tuple(parse_address(one, where=where) for one in text.split(","))
    if len(set(found)) < len(found):
        raise InvalidArgument(f"{text!r} names an address twice", where=where)
    return found
