"""Published ports: a port of the host that leads to a port of a container."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import msgspec

from dovetail.errors import InvalidArgument
from dovetail.model.addresses import IPAddress, parse_address

__all__ = ["PortMapping", "Protocol", "parse_publish"]

Protocol: TypeAlias = Literal["tcp", "udp", "sctp"]
_PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp", "sctp")
_PORT_MAX = 65535


class PortMapping(msgspec.Struct, frozen=True, kw_only=True):
    """One port of the host that leads to one port of a container.

    `host_ip` None means every address of the host, of both families. `host_port` 0 means that
    one is chosen (before anything is programmed; a stored mapping never has 0).
    """

    container_port: int
    host_port: int = 0
    protocol: Protocol = "tcp"
    host_ip: IPAddress | None = None

    def __str__(self) -> str:
        host = f"[{self.host_ip}]:" if self.host_ip and self.host_ip.version == 6 else ""
        host = host or (f"{self.host_ip}:" if self.host_ip else "")
        return f"{host}{self.host_port}->{self.container_port}/{self.protocol}"


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

    Ranges expand to one mapping a port and must be of equal length. A missing host port is 0:
    it will be chosen.
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
    host = _range(match["host"], text, where, zero=True) if match["host"] else [0] * len(container)
    if len(host) != len(container):
        raise InvalidArgument(f"the port ranges of {text!r} differ in length", where=where)
    return tuple(
        PortMapping(container_port=cont, host_port=port, protocol=protocol, host_ip=host_ip)
        for port, cont in zip(host, container, strict=True)
    )


def _range(part: str, text: str, where: str, *, zero: bool = False) -> list[int]:
    first, dash, last = part.partition("-")
    if not first.isascii() or not first.isdigit() or (dash and not (last.isascii() and last.isdigit())):
        raise InvalidArgument(
            f"{part!r} in {text!r} is not a port or a range", where=where, hint="write it as 8080:80/tcp"
        )
    low = check_port(int(first), where=where, zero=zero)
    high = check_port(int(last), where=where) if dash else low
    if high < low:
        raise InvalidArgument(f"the range {part!r} in {text!r} runs backwards", where=where)
    return list(range(low, high + 1))
