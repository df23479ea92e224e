"""What the verbs on routes and rules equal as command lines of ``ip``; see `commands`."""

from __future__ import annotations

from collections.abc import Callable

from dovetail.kernel.command_line import shell_line
from dovetail.kernel.protocol_routing import Rule
from dovetail.model.addresses import IPAddress, IPNetwork
from dovetail.model.attachment import Route

__all__ = ["ROUTING"]

# rt_scope_t, include/uapi/linux/rtnetlink.h
_RT_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}
_V6 = 6


def _add_route(
    link: str, route: Route, *, append: bool = False, source: IPAddress | None = None
) -> list[str]:
    metrics = (("mtu", route.mtu), ("advmss", route.advmss))
    return [_route("append" if append else "add", link, route, source, metrics)]


def _delete_route(link: str, route: Route, *, source: IPAddress | None = None) -> list[str]:
    return [_route("del", link, route, source, ())]


def _route(
    action: str,
    link: str,
    route: Route,
    source: IPAddress | None,
    metrics: tuple[tuple[str, int], ...],
) -> str:
    words: list[object] = ["via", *_gateway(route.gateway, route)] if route.gateway is not None else []
    words += ["dev", link]
    for name, value in (*metrics, ("metric", route.priority), ("table", route.table)):
        words += [name, value] if value else []
    words += ["scope", _RT_SCOPES.get(route.scope, route.scope)] if route.scope is not None else []
    words += ["src", source] if source is not None else []
    family = "-6" if route.destination.version == _V6 else ""
    destination = "default" if route.destination.prefixlen == 0 else route.destination
    return shell_line("ip", family, "route", action, destination, *words)


def _gateway(gateway: IPAddress, route: Route) -> tuple[object, ...]:
    same = gateway.version == route.destination.version
    return (gateway,) if same else ("inet6" if gateway.version == _V6 else "inet", gateway)


def _add_unreachable(destination: IPNetwork) -> list[str]:
    return [shell_line("ip", "route", "add", "unreachable", destination, "proto", 208)]


def _delete_unreachable(destination: IPNetwork) -> list[str]:
    return [shell_line("ip", "route", "del", "unreachable", destination, "proto", 208)]


def _add_rule(rule: Rule) -> list[str]:
    return [_rule("add", rule)]


def _delete_rule(rule: Rule) -> list[str]:
    return [_rule("del", rule)]


def _rule(action: str, rule: Rule) -> str:
    words: list[object] = ["from", rule.source] if rule.source is not None else []
    words += ["to", rule.destination] if rule.destination is not None else []
    words += ["iif", rule.iif] if rule.iif else []
    words += ["lookup", rule.table] if rule.table else []
    words += ["priority", rule.priority] if rule.priority is not None else []
    return shell_line("ip", "-6" if rule.version == _V6 else "", "rule", action, *words)


ROUTING: dict[str, Callable[..., list[str]]] = {
    "add_route": _add_route,
    "delete_route": _delete_route,
    "add_unreachable": _add_unreachable,
    "delete_unreachable": _delete_unreachable,
    "add_rule": _add_rule,
    "delete_rule": _delete_rule,
}
"""The writers by verb."""
