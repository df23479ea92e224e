"""Published ports: a port of the host that leads to a port of a container."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import msgspec

from dovetail.errors import InvalidArgument
from dovetail.model.addresses import IPAddress, parse_address

__all__ = ["PortMapping", "Protocol", "check_port", "check_protocol", "parse_publish", "port_mapping"]

Protocol: TypeAlias = Literal["tcp", "udp", "sctp"]
_PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp", "sctp")
_PORT_MAX = 65535


class PortMapping(msgspec.Struct, frozen=True, kw_only=True):
    """One port of the host that leads to one port of a container.

    `host_ip` None means every address of the host, of both families. `host_port` 0 means that
    one is chosen; with `host_port_end` the first free one from `host_port` to that. Both are
    settled before anything is programmed: a stored mapping has neither, but host port 0 where the
    container's own address is asked and no port of the host is taken (a routed network).
    """

    container_port: int
    host_port: int = 0
    host_port_end: int | msgspec.UnsetType = msgspec.UNSET
    protocol: Protocol = "tcp"
    host_ip: IPAddress | None = None

    def __str__(self) -> str:
        host = f"[{self.host_ip}]:" if self.host_ip and self.host_ip.version == 6 else ""
        host = host or (f"{self.host_ip}:" if self.host_ip else "")
        end = f"-{self.host_port_end}" if self.host_port_end else ""
        outer = f"{host}{self.host_port}{end}->" if self.host_port else host and f"{host}:"
        return f"{outer}{self.container_port}/{self.protocol}"

    @property
    def host_ports(self) -> range:
        """The host ports that will do, in the order of preference; none where any will."""
        return range(self.host_port, (self.host_port_end or self.host_port) + 1 if self.host_port else 0)


def check_protocol(text: str, *, where: str = "") -> Protocol:
    """Read a protocol's name in any case."""
    lowered = text.lower()
    for protocol in _PROTOCOLS:
        if lowered == protocol:
            return protocol
    raise InvalidArgument(
        f"{text!r} is not a protocol that can be published", where=where, hint="tcp, udp or sctp"
    )


def check_port(number: int, *, where: str = "", zero: bool = False) -> int:
    """Give `number` back if it is a port; 0 only where the host's port may be chosen."""
    if not (0 if zero else 1) <= number <= _PORT_MAX:
        raise InvalidArgument(f"{number} is not a port", where=where, hint="ports are 1 to 65535")
    return number


def parse_publish(text: str, *, where: str = "") -> tuple[PortMapping, ...]:
    """Read what ``docker run -p`` takes: ``[HOSTIP:][HOST[-HOST]:]CONT[-CONT][/PROTO]``.

    Ranges expand to one mapping a port and must be of equal length; but of a range for one container
    port the first free port is taken. A missing host port is 0: it will be chosen.
    """
    body, _, proto = text.partition("/")
    protocol = check_protocol(proto or "tcp", where=where)
    match = re.fullmatch(
        r"(?:(?:\[(?P<v6>[^\]]*)\]|(?P<v4>[^:\[\]]*)):(?=.*:))?(?:(?P<host>[^:]*):)?(?P<cont>[^:]+)", body
    )
    if match is None:
        raise InvalidArgument(
            f"{text!r} is not a port to publish", where=where, hint="write it as 8080:80/tcp"
        )
    ip_text = match["v6"] or match["v4"]
    host_ip = parse_address(ip_text, where=where) if ip_text else None
    container = _range(match["cont"], text, where)
    host = _range(match["host"], text, where, zero=True) if match["host"] else range(1)
    if len(container) == 1:
        return (port_mapping(container[0], host, protocol, host_ip),)
    if host == range(1):
        return tuple(port_mapping(cont, host, protocol, host_ip) for cont in container)
    if len(host) != len(container):
        raise InvalidArgument(f"the port ranges of {text!r} differ in length", where=where)
    return tuple(
        port_mapping(cont, range(port, port + 1), protocol, host_ip)
        for port, cont in zip(host, container, strict=True)
    )


def port_mapping(
    container_port: int, host_ports: range, protocol: Protocol, host_ip: IPAddress | None
) -> PortMapping:
    """Map one container port to the first free one of `host_ports`; of ``range(1)``, which is 0, to any."""
    return PortMapping(
        container_port=container_port,
        host_port=host_ports[0],
        host_port_end=host_ports[-1] if len(host_ports) > 1 else msgspec.UNSET,
        protocol=protocol,
        host_ip=host_ip,
    )


def _range(part: str, text: str, where: str, *, zero: bool = False) -> range:
    match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part)
    if match is None:
        raise InvalidArgument(
            f"{part!r} in {text!r} is not a port or a range", where=where, hint="write it as 8080:80/tcp"
        )
    low = check_port(int(match[1]), where=where, zero=zero and match[2] is None)
    high = low if match[2] is None else check_port(int(match[2]), where=where)
    if high < low:
        raise InvalidArgument(f"the range {part!r} in {text!r} runs backwards", where=where)
    return range(low, high + 1)
