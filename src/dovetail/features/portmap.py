"""Port mapping: ports of the host that lead to ports of an endpoint."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from dovetail.errors import PortInUse
from dovetail.kernel.protocol import Kernel
from dovetail.model.addresses import IPAddress
from dovetail.model.element import Element
from dovetail.model.endpoint import Endpoint
from dovetail.model.network import Network
from dovetail.model.port import PortMapping

__all__ = ["PortMap", "choose_ports", "published_elements"]

_CHOSEN = range(49153, 65536)  # the dynamic ports of RFC 6335 §6 (Docker's choice too)
_FAMILIES = (4, 6)


class PortMap:
    """Elements of ``publishN``, ``publishN_at`` and ``openedN``."""

    name = "portmap"

    def network_elements(self, network: Network) -> Sequence[Element]:
        """Give nothing: ports belong to endpoints."""
        return ()

    def link_elements(self, network: Network, endpoint: Endpoint) -> Sequence[Element]:
        """Give nothing: ports belong to endpoints, whatever their links."""
        return ()

    def endpoint_elements(self, network: Network, endpoint: Endpoint) -> Sequence[Element]:
        """Give what each published port is in each family that both the mapping and the endpoint have.

        Where addresses are translated, a port on every address of the host is an element of ``publishN``, on
        one address of ``publishN_at``, which is looked up first. Where the endpoint's own address may be asked
        (of a routed network by everybody, of one that trusts links by those), its port is an element of
        ``openedN``, unless it was published for the host alone. An internal network publishes nothing.
        """
        firewall = network.firewall
        if firewall is None or firewall.internal:
            return ()
        elements: list[Element] = []
        for version in _FAMILIES:
            target = next((a.ip for a in endpoint.addresses if a.version == version), None)
            if target is None:
                continue
            family = firewall.family(version)
            opens = family.mode == "routed" or (family.mode == "nat" and bool(firewall.trusted))
            mappings = [mapping for mapping in endpoint.ports if _has_family(mapping, version)]
            elements += published_elements(endpoint.ports, target) if family.translates else ()
            elements += dict.fromkeys(_opened(m, target) for m in mappings if opens and not _is_local(m))
        return elements


def published_elements(ports: Sequence[PortMapping], target: IPAddress) -> list[Element]:
    """Give what those of `ports` that take one of the host's, in the family of `target`, are as they lead there."""
    mappings = [mapping for mapping in ports if _has_family(mapping, target.version)]
    return [_published(mapping, target) for mapping in mappings if mapping.host_port]


def _has_family(mapping: PortMapping, version: int) -> bool:
    return mapping.host_ip is None or mapping.host_ip.version == version


def _is_local(mapping: PortMapping) -> bool:
    return mapping.host_ip is not None and mapping.host_ip.is_loopback


def _published(mapping: PortMapping, target: IPAddress) -> Element:
    key = (mapping.protocol, mapping.host_port)
    data = (target, mapping.container_port)
    if mapping.host_ip is None or mapping.host_ip.is_unspecified:
        return Element(f"publish{target.version}", key, data)
    return Element(f"publish{target.version}_at", (mapping.host_ip, *key), data)


def _opened(mapping: PortMapping, target: IPAddress) -> Element:
    return Element(f"opened{target.version}", (target, mapping.protocol, mapping.container_port))


def choose_ports(
    kernel: Kernel, mappings: Sequence[PortMapping], taken: Collection[PortMapping]
) -> tuple[PortMapping, ...]:
    """Give `mappings` with ranges of host ports and host port 0 replaced by a free one; changes nothing.

    taken: what other endpoints publish. A port is free if no mapping (of these or of `taken`) has it
    on an overlapping address and a socket of the host could be bound to it. Asked-for ports are
    looked at first and ranges next, so a chosen one never takes an asked-for one away.

    Raises:
        PortInUse: an asked-for port is published or bound, asked for twice, or none is left.
    """
    held = _Held(taken)
    chosen: dict[int, PortMapping] = {}
    for index, mapping in sorted(enumerate(mappings), key=lambda one: len(one[1].host_ports) or len(_CHOSEN)):
        match len(mapping.host_ports):
            case 0:
                chosen[index] = _choose(kernel, mapping, _rotated(), held)
            case 1:
                chosen[index] = _claim(kernel, mapping, held)
            case _:
                chosen[index] = _choose(kernel, mapping, mapping.host_ports, held)
    return tuple(chosen[index] for index in range(len(mappings)))


class _Held:
    """Mappings by protocol and host port, so that looking one up costs the same however many there are."""

    def __init__(self, mappings: Collection[PortMapping]) -> None:
        self._by_port: dict[tuple[str, int], list[PortMapping]] = {}
        for mapping in mappings:
            self.add(mapping)

    def add(self, mapping: PortMapping) -> None:
        self._by_port.setdefault((mapping.protocol, mapping.host_port), []).append(mapping)

    def clash(self, mapping: PortMapping) -> PortMapping | None:
        """Give one that has this port on an address that `mapping` wants too."""
        there = self._by_port.get((mapping.protocol, mapping.host_port), ())
        return next((other for other in there if _overlap(other.host_ip, mapping.host_ip)), None)


def _overlap(one: IPAddress | None, other: IPAddress | None) -> bool:
    if one is None or other is None:
        return True
    return one.version == other.version and (one == other or one.is_unspecified or other.is_unspecified)


def _claim(kernel: Kernel, mapping: PortMapping, held: _Held) -> PortMapping:
    clash = held.clash(mapping)
    if clash is not None:
        raise PortInUse(f"port {_name(mapping)} of the host is published already, as {clash}", hint=_HINT)
    if not kernel.port_is_free(mapping.protocol, mapping.host_ip, mapping.host_port):
        raise PortInUse(f"port {_name(mapping)} of the host is bound by a local process", hint=_HINT)
    held.add(mapping)
    return mapping


_HINT = "choose another host port, or 0 to have one chosen"


def _choose(kernel: Kernel, mapping: PortMapping, ports: Iterable[int], held: _Held) -> PortMapping:
    for port in ports:
        candidate = msgspec.structs.replace(mapping, host_port=port, host_port_end=msgspec.UNSET)
        if held.clash(candidate) is None and kernel.port_is_free(mapping.protocol, mapping.host_ip, port):
            held.add(candidate)
            return candidate
    among = mapping.host_ports or _CHOSEN
    raise PortInUse(
        f"no {mapping.protocol} port of the host from {among[0]} to {among[-1]} is free",
        hint="unpublish some, or name another host port",
    )


def _rotated() -> Iterator[int]:
    """Give the dynamic ports from a random one on: one that was freed lately is not given again at once."""
    start = random.randrange(len(_CHOSEN))  # noqa: S311 - nothing secret
    for step in range(len(_CHOSEN)):
        yield _CHOSEN[(start + step) % len(_CHOSEN)]


def _name(mapping: PortMapping) -> str:
    if mapping.host_ip is None:
        return f"{mapping.host_port}/{mapping.protocol}"
    host = f"[{mapping.host_ip}]" if mapping.host_ip.version == 6 else str(mapping.host_ip)
    return f"{host}:{mapping.host_port}/{mapping.protocol}"
