"""Routes and routing policy rules: what the kernel has, and the verbs on it, a part of `Kernel`."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from dovetail.model.addresses import IPAddress, IPNetwork
from dovetail.model.attachment import Route

__all__ = ["KernelRoute", "Routing", "Rule"]


class KernelRoute(NamedTuple):
    """A unicast route, or one next hop of it; `gateway` None is on-link.

    `Kernel.routes` fills the first three fields, `Kernel.table_routes` all. source: the address to send from
    (RTA_PREFSRC). priority: 0 in IPv4 where none was given, 1024 in IPv6. scope: rtm_scope, always 0 in IPv6.
    protocol: who added it (rtm_protocol): 2 the kernel with an address, 3 ``ip``.
    """

    destination: IPNetwork
    gateway: IPAddress | None
    link: str
    source: IPAddress | None = None
    priority: int = 0
    table: int = 0
    scope: int = 0
    mtu: int = 0
    advmss: int = 0
    protocol: int = 0

    def route(self, *, table: int | None = None) -> Route:
        """Give it as `Kernel.add_route` takes it, into its own table or another one."""
        return Route(
            destination=self.destination,
            gateway=self.gateway,
            mtu=self.mtu,
            advmss=self.advmss,
            priority=self.priority,
            table=self.table if table is None else table,
            scope=self.scope,
        )


class Rule(NamedTuple):
    """A routing policy rule that looks up a table: ``ip rule``.

    version: 4 or 6. source, destination: None is all. iif: the link a packet comes in by, ``lo`` for what this
    namespace sends. priority: None leaves it to the kernel, which puts the rule before those it has.
    """

    version: int
    source: IPNetwork | None = None
    destination: IPNetwork | None = None
    iif: str = ""
    table: int = 254
    priority: int | None = None


class Routing(Protocol):
    """Verbs on the routes and rules of one namespace."""

    def add_route(
        self, link: str, route: Route, *, append: bool = False, source: IPAddress | None = None
    ) -> None:
        """``ip route add``: a route to the same destination that exists raises AlreadyExists.

        append: ``ip route append``, so only an equal route of the same gateway and link exists already. In IPv6
        those of different gateways are then used by turns (ECMP), in IPv4 the first is used while it works.
        source: the address to send from (``src``).
        """
        ...

    def delete_route(self, link: str, route: Route, *, source: IPAddress | None = None) -> None:
        """``ip route del``: the first that fits; what `route` leaves open fits any, and metrics do not count.

        A missing route, table or link is no error.
        """
        ...

    def routes(self) -> list[KernelRoute]:
        """List the unicast routes of the main table, both families: where they lead and by which link."""
        ...

    def table_routes(self, table: int = 0) -> list[KernelRoute]:
        """``ip route show table TABLE``: list the unicast routes of one table, 0: of all, with all that they say."""
        ...

    def add_unreachable(self, destination: IPNetwork) -> None:
        """``ip route add unreachable DESTINATION``: what no longer prefix leads to is answered so.

        It bears a protocol number of ours (rtm_protocol). Where there is a route to `destination` already,
        that stays and nothing is added.
        """
        ...

    def delete_unreachable(self, destination: IPNetwork) -> None:
        """Remove what `add_unreachable` added; what is gone already is no error."""
        ...

    def unreachable(self) -> set[IPNetwork]:
        """List what `add_unreachable` added."""
        ...

    def add_rule(self, rule: Rule) -> None:
        """``ip rule add``; an equal rule of the same priority raises AlreadyExists."""
        ...

    def delete_rule(self, rule: Rule) -> None:
        """``ip rule del``: the first that fits, priority None and what else is left open fits any.

        A missing one is no error.
        """
        ...

    def routing_rules(self) -> list[Rule]:
        """List the rules of both families that look up a table by source, destination and incoming link.

        Left out are those that look at more (a mark, a port) or do something else (l3mdev, blackhole).
        """
        ...
