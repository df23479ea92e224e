"""The routes and rules of `RecordingKernel`."""

from __future__ import annotations

from dovetail.errors import AlreadyExists
from dovetail.kernel.commands import describe
from dovetail.kernel.protocol_routing import KernelRoute, Rule
from dovetail.kernel.recorded import Recorder
from dovetail.model.addresses import IPAddress, IPNetwork
from dovetail.model.attachment import Route

__all__ = ["RecordingRouting"]

_V6 = 6
_MAIN = 254  # RT_TABLE_MAIN, include/uapi/linux/rtnetlink.h, as the names of the next lines
_RTPROT_KERNEL, _RTPROT_BOOT = 2, 3
_SCOPE_LINK = 253
_V6_PRIORITY = 1024  # IP6_RT_PRIO_USER, include/uapi/linux/ipv6_route.h
_V6_PREFIX_PRIORITY = 256  # IP6_RT_PRIO_ADDRCONF, the same
_FIRST_RULES = (  # of a fresh namespace: local, main and, in IPv4, default
    Rule(4, table=255, priority=0),
    Rule(4, table=_MAIN, priority=32766),
    Rule(4, table=253, priority=32767),
    Rule(6, table=255, priority=0),
    Rule(6, table=_MAIN, priority=32766),
)


class RecordingRouting(Recorder):
    """Those verbs, recorded."""

    def add_route(
        self, link: str, route: Route, *, append: bool = False, source: IPAddress | None = None
    ) -> None:
        """Record ``ip route add`` or ``append``."""
        self._present(link)
        wanted = _kernel_route(link, route, source)
        for known in self.table_routes(wanted.table):
            same_place = (known.destination, known.priority) == (wanted.destination, wanted.priority)
            if same_place and (not append or (known.gateway, known.link) == (wanted.gateway, link)):
                raise AlreadyExists("route", str(route.destination))
        self._record("add_route", link, route, append=append, source=source)
        self._space.routes.append(wanted)
        self._space.routes_gone.discard(wanted)

    def delete_route(self, link: str, route: Route, *, source: IPAddress | None = None) -> None:
        """Record ``ip route del`` where one fits."""
        table = route.table or _MAIN
        found = next(
            (r for r in self.table_routes(table) if r.link == link and _fits(r, route, source)), None
        )
        if found is None:
            return
        self._record("delete_route", link, route, source=source)
        if found in self._space.routes:
            self._space.routes.remove(found)
        else:
            self._space.routes_gone.add(found)

    def routes(self) -> list[KernelRoute]:
        """List recorded routes of the main table, those that recorded addresses bring, and the base's."""
        return list(dict.fromkeys(KernelRoute(*route[:3]) for route in self.table_routes(_MAIN)))

    def table_routes(self, table: int = 0) -> list[KernelRoute]:
        """List recorded routes, those that recorded addresses bring, and the base's."""
        base = self._base.table_routes(table) if self._base is not None else []
        there = [route for route in base if self.link(route.link)]
        all_of_them = dict.fromkeys([*there, *self._connected(), *self._space.routes])
        gone = self._space.routes_gone
        return [route for route in all_of_them if route not in gone and table in (0, route.table)]

    def _connected(self) -> list[KernelRoute]:
        links = {link.name for link in self.links() if link.up}
        return [
            KernelRoute(
                *(address.network, None, name),
                source=address.ip if address.version != _V6 else None,
                priority=_V6_PREFIX_PRIORITY if address.version == _V6 else 0,
                table=_MAIN,
                scope=0 if address.version == _V6 else _SCOPE_LINK,
                protocol=_RTPROT_KERNEL,
            )
            for name, address in sorted(self._space.addresses - self._space.off_link, key=str)
            if name in links and (address.version == _V6 or address.network.prefixlen < address.max_prefixlen)
        ]

    def add_unreachable(self, destination: IPNetwork) -> None:
        """Record ``ip route add unreachable`` where it is not there."""
        if destination not in self.unreachable():
            self._record("add_unreachable", destination)
            self._space.unreachable[destination] = True

    def delete_unreachable(self, destination: IPNetwork) -> None:
        """Record ``ip route del unreachable`` where it is there."""
        if destination in self.unreachable():
            self._record("delete_unreachable", destination)
            self._space.unreachable[destination] = False

    def unreachable(self) -> set[IPNetwork]:
        """List what was recorded, and the base's."""
        base = self._base.unreachable() if self._base is not None else set()
        recorded = self._space.unreachable
        return {d for d in {*base, *recorded} if recorded.get(d, True)}

    # -- rules ------------------------------------------------------------------------------------

    def add_rule(self, rule: Rule) -> None:
        """Record ``ip rule add``."""
        known = self.routing_rules()
        if rule in known:
            raise AlreadyExists("rule", describe("add_rule", rule)[0])
        self._record("add_rule", rule)
        if rule.priority is None:  # before the first that is not the local table's (fib_default_rule_pref)
            second = [r.priority or 0 for r in known if r.version == rule.version][1:2]
            rule = rule._replace(priority=max(second[0] - 1, 0) if second else 0)
        self._space.policy.append(rule)
        self._space.policy_gone.discard(rule)

    def delete_rule(self, rule: Rule) -> None:
        """Record ``ip rule del`` where one fits."""
        found = next((known for known in self.routing_rules() if _rule_fits(known, rule)), None)
        if found is None:
            return
        self._record("delete_rule", rule)
        if found in self._space.policy:
            self._space.policy.remove(found)
        else:
            self._space.policy_gone.add(found)

    def routing_rules(self) -> list[Rule]:
        """List recorded rules and the base's, or a fresh namespace's."""
        base = self._base.routing_rules() if self._base is not None else list(_FIRST_RULES)
        there = [rule for rule in base if rule not in self._space.policy_gone]
        return sorted([*there, *self._space.policy], key=lambda rule: (rule.version, rule.priority or 0))


def _kernel_route(link: str, route: Route, source: IPAddress | None) -> KernelRoute:
    six = route.destination.version == _V6
    scope = _SCOPE_LINK if route.gateway is None else 0
    return KernelRoute(
        *(route.destination, route.gateway, link, source),
        priority=route.priority or (_V6_PRIORITY if six else 0),
        table=route.table or _MAIN,
        scope=0 if six else scope if route.scope is None else route.scope,
        mtu=route.mtu,
        advmss=route.advmss,
        protocol=_RTPROT_BOOT,
    )


def _fits(known: KernelRoute, route: Route, source: IPAddress | None) -> bool:
    return (
        known.destination == route.destination
        and route.gateway in (None, known.gateway)
        and route.priority in (0, known.priority)
        and (route.scope in (None, known.scope) or route.destination.version == _V6)
        and source in (None, known.source)
    )


def _rule_fits(known: Rule, rule: Rule) -> bool:
    return (
        known.version == rule.version
        and rule.source in (None, known.source)
        and rule.destination in (None, known.destination)
        and rule.iif in ("", known.iif)
        and rule.table in (0, known.table)
        and rule.priority in (None, known.priority)
    )
