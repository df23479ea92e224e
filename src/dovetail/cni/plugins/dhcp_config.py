"""The ``ipam`` section of type ``dhcp``: the keys of the Go plugin, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from dovetail.cni.conf import Conf, read_conf
from dovetail.cni.errors import INVALID_CONFIG, CniError
from dovetail.cni.folded import Folded
from dovetail.errors import InvalidArgument
from dovetail.ipam.dhcp.lease import LeaseRequest
from dovetail.ipam.dhcp.options import DEFAULT_REQUEST, OURS, VALUE_BYTES, option_number

__all__ = ["DhcpConf", "lease_request"]

_MOST = 2**32 - 1  # RTA_PRIORITY, include/uapi/linux/rtnetlink.h


class DhcpConf(Conf, frozen=True, kw_only=True):
    """The keys of ``ipam`` of type ``dhcp``."""

    provide: Annotated[
        tuple[Any, ...],
        "what is sent along: `option` (its number or its name), `value`, or `fromArg`: the key of CNI_ARGS that has it",
    ] = ()
    request: Annotated[
        tuple[Any, ...],
        "what is asked for besides: `option`; with `skipDefault` nothing of what is always asked for",
    ] = ()
    priority: Annotated[int, "the metric of the routes; 0 leaves it to the kernel"] = 0
    ipv6: Annotated[bool, "an address by DHCPv6 as well"] = False
    broadcast: Annotated[bool, "servers answer by broadcast; always so for `ipvlan`"] = False
    daemon_socket_path: Annotated[str, "passed over: our daemon is the one that the executable asks"] = ""


def lease_request(
    ipam: Folded, *, container: str, network: str, ifname: str, args: Mapping[str, str]
) -> LeaseRequest:
    """Read the section, for one attachment; `args` are CNI_ARGS. Raises CniError 7, which names the place."""
    conf = read_conf(ipam, DhcpConf)
    try:
        return LeaseRequest(
            container=container,
            network=network,
            ifname=ifname,
            provide=_provide(conf.provide, args),
            request=_request(conf.request),
            priority=_priority(conf.priority),
            broadcast=conf.broadcast,
            ipv6=conf.ipv6,
        )
    except InvalidArgument as exc:
        raise CniError(INVALID_CONFIG, str(exc).removesuffix(f" ({exc.hint})"), exc.hint) from exc


def _provide(entries: tuple[Folded, ...], args: Mapping[str, str]) -> dict[int, bytes]:
    """Read what is sent along: an argument of the runtime counts before a value, and one that it does not give is left out."""
    found: dict[int, bytes] = {}
    for index, one in enumerate(entries):
        where = f"$.ipam.provide[{index}]"
        number = _number(one, where)
        if number in OURS:
            raise InvalidArgument(
                f"option {number} is the protocol's own, it cannot be provided", where=f"{where}.option"
            )
        name, text = one.text("fromArg"), one.text("value")
        source = f"{where}.value"
        if name in args:
            text, source = args[name], f"CNI_ARGS {name}"
        value = text.encode()
        if len(value) > VALUE_BYTES:
            raise InvalidArgument(
                f"the value of option {number} has {len(value)} bytes, {VALUE_BYTES} are the most",
                where=source,
            )
        if value:
            found[number] = value
    return found


def _request(entries: tuple[Folded, ...]) -> tuple[int, ...]:
    """Read what is asked for; an entry may do without an option, as ``{"skipDefault": true}`` in the Go plugin's guide."""
    asked = () if any(one.boolean("skipDefault") for one in entries) else DEFAULT_REQUEST
    named = (_number(one, f"$.ipam.request[{index}]") for index, one in enumerate(entries) if "option" in one)
    return tuple(dict.fromkeys((*asked, *named)))


def _number(one: Folded, where: str) -> int:
    try:
        option = one.text("option")
    except CniError:
        option = str(one.integer("option"))
    return option_number(option, where=f"{where}.option")


def _priority(priority: int) -> int:
    if not 0 <= priority <= _MOST:
        raise InvalidArgument(
            f"{priority} is no metric", where="$.ipam.priority", hint=f"write a number from 0 to {_MOST}"
        )
    return priority
