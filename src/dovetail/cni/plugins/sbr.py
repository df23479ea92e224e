"""Type ``sbr``: what is sent from the interface's addresses is routed by tables of their own."""

from __future__ import annotations

from typing import Annotated

from dovetail.cni.conf import Conf, read_conf
from dovetail.cni.errors import INVALID_CONFIG, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.chained_plugin import ChainedPlugin
from dovetail.cni.spec.result import Result
from dovetail.kernel.protocol import Netns
from dovetail.model.addresses import IPAddress, parse_address
from dovetail.model.source_routing import Source, SourceRouting

__all__ = ["SbrPlugin"]

_TABLE_MAX = 2**32 - 1  # RTA_TABLE is a u32, include/uapi/linux/rtnetlink.h


class SbrConf(Conf, frozen=True, kw_only=True):
    """The keys of ``sbr``."""

    table: Annotated[
        int,
        "a table whose routes somebody else makes: there are rules that lead to it, and no route is moved",
    ] = 0
    gateways: Annotated[tuple[str, ...], "where the default routes of the tables lead, one a family"] = ()
    add_source_hints: Annotated[
        bool, "the routes stay in the main table too, and say which address to send from"
    ] = False


class SbrPlugin(ChainedPlugin):
    """A thin parser over `features.source_routing`."""

    kind = "sbr"
    conf = SbrConf

    def read(self, call: Call) -> None:
        """Refuse a table that cannot be, and a second gateway of a family."""
        _table(call)
        _gateways(call)

    def detail(self, call: Call, result: Result, netns: Netns) -> SourceRouting:
        """Name the addresses of the interface, each with its gateway."""
        ifname, gateways = call.environment.ifname, _gateways(call)
        mine = result.addresses_of(ifname)
        if not mine:
            raise CniError(
                INVALID_CONFIG,
                f"No IP addresses supplied on interface: {ifname}",
                "the plugin before this one gives the interface an address",
            )
        sources = (
            Source(
                address=ip.address,
                gateway=gateways.get(ip.address.version, ip.gateway),
                gateway_given=ip.address.version in gateways,
            )
            for ip in result.ips
            if ip.address in mine
        )
        return SourceRouting(
            ifname=ifname,
            sources=tuple(sources),
            table=_table(call),
            source_hints=read_conf(call.config, SbrConf).add_source_hints,
        )

    def remains(self, call: Call, result: Result | None, netns: Netns | None) -> SourceRouting:
        """Name the addresses whose rules the reference plugin has left; without a result those of the interface."""
        ifname = call.environment.ifname
        addresses = result.addresses_of(ifname) if result is not None else ()
        sources = tuple(Source(address=address) for address in addresses)
        return SourceRouting(ifname=ifname, sources=sources, table=_table(call))


def _table(call: Call) -> int:
    table = read_conf(call.config, SbrConf).table
    if not 0 <= table <= _TABLE_MAX:
        raise CniError(
            INVALID_CONFIG, f"$.table: {table} is not the number of a routing table, 1 to {_TABLE_MAX}"
        )
    return table


def _gateways(call: Call) -> dict[int, IPAddress]:
    found: dict[int, IPAddress] = {}
    for text in read_conf(call.config, SbrConf).gateways:
        gateway = parse_address(text, where="$.gateways")
        if gateway.version in found:
            raise CniError(
                INVALID_CONFIG,
                f"$.gateways: {gateway} is a second gateway of IPv{gateway.version}",
                "name one a family",
            )
        found[gateway.version] = gateway
    return found
