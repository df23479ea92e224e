"""The routes and rules of `LinuxKernel`, over rtnetlink."""

from __future__ import annotations

import errno
from functools import partial

from dovetail.errors import AlreadyExists
from dovetail.kernel import rtnl_routes
from dovetail.kernel.commands import describe
from dovetail.kernel.linux_handle import LinuxHandle, names, rows
from dovetail.kernel.netlink import Message
from dovetail.kernel.protocol_routing import KernelRoute, Rule
from dovetail.kernel.rtnl_routes import RouteRow
from dovetail.kernel.train import Operation, Resolve
from dovetail.model.addresses import IPAddress, IPNetwork
from dovetail.model.attachment import Route

__all__ = ["LinuxRouting"]

_MISSING_ROUTE = frozenset({errno.ENODEV, errno.ESRCH, errno.ENOENT})
_MISSING_RULE = frozenset({errno.ENOENT, errno.ESRCH})


class LinuxRouting(LinuxHandle):
    """Those verbs in the handle's namespace."""

    def add_route(
        self, link: str, route: Route, *, append: bool = False, source: IPAddress | None = None
    ) -> None:
        """Add a route; raises AlreadyExists, NotFound (the link), KernelError (the gateway is unreachable)."""
        commands = partial(describe, "add_route", link, route, append=append, source=source)

        def exists() -> AlreadyExists:
            return AlreadyExists("route", str(route.destination))

        def build(resolve: Resolve) -> list[Message]:
            return [rtnl_routes.new_route(resolve(link), route, append=append, source=source)]

        self._do(Operation(commands, build, exists, link))

    def delete_route(self, link: str, route: Route, *, source: IPAddress | None = None) -> None:
        """Delete a route; without the route, its table or the link there is nothing to do."""
        commands = partial(describe, "delete_route", link, route, source=source)

        def build(resolve: Resolve) -> list[Message]:
            return [rtnl_routes.remove_route(resolve(link), route, source=source)]

        self._do(Operation(commands, build, link=link, tolerated=_MISSING_ROUTE))

    def routes(self) -> list[KernelRoute]:
        """List the unicast routes of the main table; one with several next hops is listed for each."""
        return [KernelRoute(row.destination, row.gateway, link) for row, link in self._rows(rtnl_routes.MAIN)]

    def table_routes(self, table: int = 0) -> list[KernelRoute]:
        """List the unicast routes of one table or of all; one with several next hops is listed for each."""
        return [_named(row, link) for row, link in self._rows(table)]

    def _rows(self, table: int) -> list[tuple[RouteRow, str]]:
        with self._route.borrow() as netlink:
            name_by = names(netlink)
            return [
                (row, name)
                for version in (4, 6)
                for body in rows(netlink, rtnl_routes.dump_routes(version, table), "ip route show")
                for row in rtnl_routes.parse_routes(body, table)
                if (name := name_by(row.ifindex))
            ]

    def add_unreachable(self, destination: IPNetwork) -> None:
        """Answer that `destination` cannot be reached, where no longer prefix leads to it."""
        message = rtnl_routes.new_unreachable(destination)
        self._unreachable("add_unreachable", message, destination, errno.EEXIST)

    def delete_unreachable(self, destination: IPNetwork) -> None:
        """Remove that answer."""
        message = rtnl_routes.remove_unreachable(destination)
        self._unreachable("delete_unreachable", message, destination, errno.ESRCH)

    def unreachable(self) -> set[IPNetwork]:
        """List what is answered so."""
        with self._route.borrow() as netlink:
            found = [
                rtnl_routes.parse_unreachable(body)
                for version in (4, 6)
                for body in rows(
                    netlink, rtnl_routes.dump_unreachable(version), "ip route show type unreachable"
                )
            ]
        return {destination for destination in found if destination is not None}

    def _unreachable(self, verb: str, message: Message, destination: IPNetwork, tolerated: int) -> None:
        commands = partial(describe, verb, destination)
        self._do(Operation(commands, lambda _: [message], tolerated=frozenset({tolerated})))

    # -- rules ------------------------------------------------------------------------------------

    def add_rule(self, rule: Rule) -> None:
        """Add a rule; raises AlreadyExists."""
        from dovetail.kernel.rtnl_rules import new_rule

        message = new_rule(rule)

        def exists() -> AlreadyExists:
            return AlreadyExists("rule", describe("add_rule", rule)[0])

        self._do(Operation(partial(describe, "add_rule", rule), lambda _: [message], exists))

    def delete_rule(self, rule: Rule) -> None:
        """Delete the first rule that fits; without one there is nothing to do."""
        from dovetail.kernel.rtnl_rules import remove_rule

        message = remove_rule(rule)
        commands = partial(describe, "delete_rule", rule)
        self._do(Operation(commands, lambda _: [message], tolerated=_MISSING_RULE))

    def routing_rules(self) -> list[Rule]:
        """List the rules of both families, by family and priority."""
        from dovetail.kernel.rtnl_rules import dump_rules, parse_rule

        with self._route.borrow() as netlink:
            found = [
                parse_rule(body)
                for version in (4, 6)
                for body in rows(netlink, dump_rules(version), "ip rule show")
            ]
        return [rule for rule in found if rule is not None]


def _named(row: RouteRow, link: str) -> KernelRoute:
    destination, gateway, _, source, priority, table, scope, mtu, advmss, protocol = row
    return KernelRoute(destination, gateway, link, source, priority, table, scope, mtu, advmss, protocol)
