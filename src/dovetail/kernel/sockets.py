"""Ports of the host: whether a process has one, asked by binding it."""

from __future__ import annotations

import errno
import socket

from dovetail.errors import KernelError, PermissionDenied
from dovetail.model.addresses import IPAddress

__all__ = ["port_is_free"]

_KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_IP_FREEBIND = 15  # include/uapi/linux/in.h
_IPV6_FREEBIND = 78  # include/uapi/linux/in6.h
_NO_SOCKETS = frozenset({errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ESOCKTNOSUPPORT})
_V6 = 6


def port_is_free(protocol: str, address: IPAddress | None, port: int) -> bool:
    """Say whether a socket of the calling thread's namespace could be bound to `port`.

    `address` None asks for every address of both families. An address that the host does not have (yet)
    counts as free: IP_FREEBIND. A protocol or family without sockets here counts as free.
    """
    if address is not None:
        return _can_bind(protocol, address.version, str(address), port)
    return _can_bind(protocol, 4, "0.0.0.0", port) and _can_bind(protocol, 6, "::", port)  # noqa: S104


def _can_bind(protocol: str, version: int, address: str, port: int) -> bool:
    kind, number = _KINDS[protocol]
    family = socket.AF_INET6 if version == _V6 else socket.AF_INET
    try:
        probe = socket.socket(family, kind | socket.SOCK_CLOEXEC, number)
    except OSError as exc:
        if exc.errno in _NO_SOCKETS:
            return True
        raise
    with probe:
        if protocol == "tcp":
            # connections of a server that ended linger in TIME_WAIT, and are in nobody's way;
            # for UDP the option would let two sockets share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == _V6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            probe.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        try:
            probe.bind((address, port))
        except PermissionError as exc:
            raise PermissionDenied(
                f"no permission to bind {protocol} port {port}", hint="run as root"
            ) from exc
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                return False
            if exc.errno == errno.EADDRNOTAVAIL:
                return True
            raise KernelError(
                f"{protocol} port {port} cannot be bound: {exc.strerror}", exc.errno or 0
            ) from exc
    return True
