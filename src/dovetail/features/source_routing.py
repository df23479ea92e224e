"""Route by source address, as CNI's type ``sbr`` has it.

::

    ip rule add from 10.50.0.2 lookup 100
    ip route show table 100:  default via 10.50.0.1 dev net1
                              10.50.0.0/24 dev net1 src 10.50.0.2

Each address of the interface has a table, the first free one from 100 on, to which the interface's routes move from
the main table. So a program that has bound to the address of one interface is answered by way of that one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from ipaddress import ip_network
from itertools import zip_longest
from typing import Literal

import msgspec

from dovetail.errors import AlreadyExists, KernelError, NotFound
from dovetail.kernel.netns_lock import locked
from dovetail.kernel.protocol import Kernel, KernelRoute, Netns, Rule
from dovetail.model.addresses import EVERYWHERE, IPAddress, IPInterface, IPNetwork
from dovetail.model.attachment import Route
from dovetail.model.endpoint import Owner
from dovetail.model.source_routing import Source, SourceRouting

__all__ = ["SourceRoutings"]

_FIRST_TABLE = 100  # the reference plugin's
_MAIN = 254  # RT_TABLE_MAIN, include/uapi/linux/rtnetlink.h, as the others
_NOT_OURS = frozenset({_MAIN, 253, 255})  # RT_TABLE_DEFAULT, RT_TABLE_LOCAL
_V6 = 6
_V6_PRIORITY = 1024  # IP6_RT_PRIO_USER, include/uapi/linux/ipv6_route.h: where a route says none
_LINK_LOCAL = ip_network("fe80::/10")


class SourceRoutings:
    """The kind of part ``sbr``."""

    name = "sbr"
    layer: Literal["feature"] = "feature"
    detail = SourceRouting

    def make(
        self,
        kernel: Kernel,
        detail: SourceRouting,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> SourceRouting:
        """Choose the tables, fill them, and have the rules lead there; gives `detail` with the tables.

        Kernel changes: rules and routes of the sandbox's namespace, which is locked meanwhile: the attachment of
        another interface must not take the same table. What is sent goes one way or the other at every moment.
        """
        if netns is None:
            raise NotFound("namespace", owner.container)
        with locked(netns), kernel.inside(netns) as inner:
            if inner.link(detail.ifname) is None:
                raise NotFound("interface", detail.ifname, hint="the plugin before this one makes it")
            rules, routes = inner.routing_rules(), inner.table_routes()
            mine = [route for route in routes if (route.link, route.table) == (detail.ifname, _MAIN)]
            tables = _free_tables({rule.table for rule in rules} | {route.table for route in routes})
            sources = [_fill(source, detail, mine, tables) for source in detail.sources]
            undo.callback(_put_back, kernel, netns, detail.ifname, sources, mine, rules)
            _apply(inner, detail, sources, mine, rules)
        return msgspec.structs.replace(detail, sources=tuple(source for source, _ in sources))

    def unmake(self, kernel: Kernel, detail: SourceRouting, *, owner: Owner, netns: Netns | None) -> None:
        """Delete the rules from the addresses. The routes go with the interface."""
        if netns is None:
            return
        with locked(netns), kernel.inside(netns) as inner:
            addresses = [source.address for source in detail.sources] or [
                address for _, address in inner.addresses(detail.ifname)
            ]
            sources = {ip_network(address.ip) for address in addresses}
            for rule in inner.routing_rules():
                if rule.source in sources and _is_ours(rule, detail):
                    inner.delete_rule(rule)

    def differences(
        self, kernel: Kernel, detail: SourceRouting, *, owner: Owner, netns: Netns | None
    ) -> list[str]:
        """Compare rules and the tables' routes."""
        if netns is None:
            return []
        with kernel.inside(netns) as inner:
            rules, routes = inner.routing_rules(), inner.table_routes()
        present = {(route.table, *route[:3]) for route in routes}
        found: list[str] = []
        for source in detail.sources:
            host = ip_network(source.address.ip)
            tables = [rule.table for rule in rules if rule.source == host and _is_ours(rule, detail)]
            table = source.table or next(iter(tables), 0)
            if table not in tables:
                to = f" to table {table}" if table else ""
                found.append(f"the rule from {source.address.ip}{to} is missing")
            found += [
                f"{_words(route)} dev {detail.ifname} is missing from table {table}"
                for route in _expected(source, detail)
                if (table, route.destination, route.gateway, detail.ifname) not in present
            ]
        return found


def _free_tables(taken: Collection[int]) -> Iterator[int]:
    table = _FIRST_TABLE
    while True:
        if table not in taken:
            yield table
        table += 1


def _is_ours(rule: Rule, detail: SourceRouting) -> bool:
    return rule.table == detail.table if detail.table else rule.table not in _NOT_OURS


_Filled = tuple[Source, tuple[KernelRoute, ...]]


def _fill(
    source: Source, detail: SourceRouting, mine: Sequence[KernelRoute], tables: Iterator[int]
) -> _Filled:
    """Give the source its table, and the routes to copy into it."""
    if detail.table:
        return msgspec.structs.replace(source, table=detail.table, gateway=None), ()
    source = msgspec.structs.replace(source, table=next(tables))
    copies = [route for route in mine if _goes_with(route, source.address)]
    default = _default(source)
    if default is not None:
        same = [route for route in copies if _place(route) == _place_of(default)]
        if source.gateway_given:
            copies = [route for route in copies if route not in same]
        elif same:
            default = None
    moved = tuple(route.route(table=source.table) for route in copies)
    routes = (*moved, default) if default is not None else moved
    return msgspec.structs.replace(source, routes=routes), tuple(copies)


def _default(source: Source) -> Route | None:
    """Give the default route: a plugin before may have made none, as another interface has it."""
    if source.gateway is None:
        return None
    destination = EVERYWHERE[source.gateway.version]
    return Route(destination=destination, gateway=source.gateway, table=source.table)


def _goes_with(route: KernelRoute, address: IPInterface) -> bool:
    """Say whether a route is one of an address: it sends from or by its subnet, or says neither."""
    if route.destination.version != address.version:
        return False
    if route.source is None and route.gateway is None:
        return True
    return any(ip is not None and ip in address.network for ip in (route.source, route.gateway))


def _place(route: KernelRoute) -> tuple[IPNetwork, int]:
    return route.destination, route.priority


def _place_of(route: Route) -> tuple[IPNetwork, int]:
    return route.destination, route.priority or (_V6_PRIORITY if route.destination.version == _V6 else 0)


def _apply(
    inner: Kernel,
    detail: SourceRouting,
    sources: Sequence[_Filled],
    mine: Sequence[KernelRoute],
    rules: Collection[Rule],
) -> None:
    """Fill the tables and let the rules lead there, in one train; when that is done, clear the main table."""
    name = detail.ifname
    with inner.batch():
        for source, copies in sources:
            for route, copy in zip_longest(source.routes, copies):
                inner.add_route(name, route, append=True, source=copy.source if copy is not None else None)
            rule = _rule(source)
            if not any((known.source, known.table) == (rule.source, rule.table) for known in rules):
                inner.add_rule(rule)
    with inner.batch():
        for known in mine if not detail.table else ():
            if _stays(known):
                continue
            source_hint = _hint(known, sources) if detail.source_hints else None
            if detail.source_hints and (known.source is not None or source_hint is None):
                continue
            inner.delete_route(name, _exact(known), source=known.source)
            if source_hint is not None:
                inner.add_route(name, known.route(), append=True, source=source_hint)


def _stays(route: KernelRoute) -> bool:
    """Say whether a route stays in the main table in any case: link-local addresses are every interface's own."""
    return route.destination.version == _V6 and route.destination.subnet_of(_LINK_LOCAL)  # type: ignore[arg-type]


def _hint(route: KernelRoute, sources: Sequence[_Filled]) -> IPAddress | None:
    """Give the address to send from by a route that says none."""
    return next((s.address.ip for s, _ in sources if _goes_with(route, s.address)), None)


def _rule(source: Source) -> Rule:
    return Rule(source.address.version, source=ip_network(source.address.ip), table=source.table)


def _exact(route: KernelRoute) -> Route:
    return msgspec.structs.replace(route.route(), mtu=0, advmss=0)


def _put_back(
    kernel: Kernel,
    netns: Netns,
    ifname: str,
    sources: Sequence[_Filled],
    mine: Sequence[KernelRoute],
    rules: Collection[Rule],
) -> None:
    """Take back what `_apply` may have done of it."""
    with locked(netns), kernel.inside(netns) as inner:
        for source, _ in sources:
            rule = _rule(source)
            if not any((known.source, known.table) == (rule.source, rule.table) for known in rules):
                inner.delete_rule(rule)
            for added in source.routes:
                inner.delete_route(ifname, msgspec.structs.replace(added, mtu=0, advmss=0))
        present = set(inner.table_routes(_MAIN))
        for route in sorted(
            mine, key=lambda route: route.gateway is not None
        ):  # which leads by one on the link
            if route in present:
                continue
            if any(_place(other) == _place(route) and other[:3] == route[:3] for other in present):
                inner.delete_route(ifname, _exact(route))  # the one with a hint
            try:
                inner.add_route(ifname, route.route(), append=True, source=route.source)
            except (AlreadyExists, KernelError, NotFound):
                continue


def _expected(source: Source, detail: SourceRouting) -> Sequence[Route]:
    """Give the routes that the table is to have; of another program's table only the default route is known."""
    default = None if source.routes or detail.table else _default(source)
    return source.routes if default is None else (default,)


def _words(route: Route) -> str:
    what = f"route {route.destination}" if route.destination.prefixlen else "default route"
    return f"the {what} via {route.gateway}" if route.gateway is not None else f"the {what}"
