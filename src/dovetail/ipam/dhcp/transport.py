"""The wire of a DHCP client: sockets inside a container's namespace, on one of its interfaces.

Over IPv4 a packet socket, as the interface has no address at first and no route to a broadcast; the kernel filters for
it, so that a busy container's packets are not looked at. What is for one server goes by the container's routes and
neighbours where it has its address: a server may have moved to another MAC address (a bridge does when its ports
change). Over IPv6 a UDP socket: the interface has a link-local address.

A socket stays in the namespace that it was opened in, wherever its thread goes. Opening one needs CAP_SYS_ADMIN (to
enter), CAP_NET_RAW and CAP_NET_ADMIN there.

Source: packet(7), Documentation/networking/filter.rst; RFC 8415 §7.1 and §7.2.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from dovetail.errors import DovetailError, KernelError, NotFound, PermissionDenied, Unsupported
from dovetail.ipam.dhcp.datagram import CLIENT_PORT, SERVER_PORT, unwrap, wrap
from dovetail.ipam.dhcp.machine import EVERYBODY, Datagram, Port
from dovetail.ipam.dhcp.values import MalformedError
from dovetail.kernel.netlink import NetlinkSocket
from dovetail.kernel.netns import LinuxNetns, entered, open_netns
from dovetail.kernel.protocol import Netns
from dovetail.kernel.rtnl import set_link

__all__ = ["LinuxPorts", "OpenPort", "PacketPort", "Ports", "Udp6Port"]

_ETH_P_IP = 0x0800  # include/uapi/linux/if_ether.h
_SOL_PACKET, _PACKET_AUXDATA = 263, 8  # include/linux/socket.h, include/uapi/linux/if_packet.h
_TP_STATUS_CSUMNOTREADY = 1 << 3  # include/uapi/linux/if_packet.h
_AUXDATA = (_SOL_PACKET, _PACKET_AUXDATA)
_SO_ATTACH_FILTER = 26  # include/uapi/asm-generic/socket.h
_SIOCGIFMTU = 0x8921  # include/uapi/linux/sockios.h
_SIOCGIFFLAGS = 0x8913  # include/uapi/linux/sockios.h
_IFF_RUNNING = 0x40  # include/uapi/linux/if.h
_IFREQ_INT, _IFREQ_SHORT = (
    struct.Struct("16si20x"),
    struct.Struct("16sH22x"),
)  # struct ifreq, include/uapi/linux/if.h
_EVERYBODY = b"\xff" * 6
_CLIENT6_PORT, _SERVER6_PORT = 546, 547  # RFC 8415 §7.2
_LARGEST = 65536
_KIND = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_AT_ONCE = 64
# the interface is down, or has no address that it could speak from yet
_NOT_NOW = frozenset(
    {errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENOBUFS}
)
_NO_LINK = frozenset({errno.ENODEV, errno.ENXIO})

# UDP to port 68, not a later fragment; offsets count from the IP header (struct sock_filter, linux/filter.h)
_DROP, _KEEP = (0x06, 0, 0, 0), (0x06, 0, 0, _LARGEST)  # BPF_RET | BPF_K
_FILTER = (
    (0x30, 0, 0, 9),  # ldb [9], the protocol
    (0x15, 0, 6, 17),  # jeq #17, else drop
    (0x28, 0, 0, 6),  # ldh [6], the fragment's offset
    (0x45, 4, 0, 0x1FFF),  # jset #0x1fff, then drop
    (0xB1, 0, 0, 0),  # ldxb 4*([0]&0xf), the header's length
    (0x48, 0, 0, 2),  # ldh [x + 2], the receiver's port
    (0x15, 0, 1, CLIENT_PORT),  # jeq #68, else drop
    _KEEP,
    _DROP,
)


class OpenPort(Port, Protocol):
    """A port with a socket behind it."""

    def fileno(self) -> int:
        """Give the socket's descriptor, for polling."""
        ...

    def receive(self) -> Iterator[Datagram]:
        """Give what has arrived; never waits."""
        ...

    def close(self) -> None:
        """Close the socket; closing twice is no error."""
        ...


class Ports(Protocol):
    """Opens ports."""

    def open_netns(self, path: str) -> Netns:
        """Open a namespace by its path; see `Kernel.open_netns`."""
        ...

    def duplicate(self, netns: Netns) -> Netns:
        """Give another descriptor of an open namespace."""
        ...

    def open(self, netns: Netns, ifname: str, *, version: int, up: bool) -> OpenPort:
        """Open one for IPv4 or IPv6; `up`: see that the interface is up.

        Raises NotFound (no such link), Unsupported (it is no Ethernet), PermissionDenied, KernelError.
        """
        ...


class LinuxPorts:
    """Opens real ones."""

    def open_netns(self, path: str) -> Netns:
        """Open a namespace by its path."""
        return open_netns(path)

    def duplicate(self, netns: Netns) -> Netns:
        """Give another descriptor of an open namespace."""
        return LinuxNetns(os.dup(netns.fileno()), netns.path)

    def open(self, netns: Netns, ifname: str, *, version: int, up: bool) -> OpenPort:
        """Open one for IPv4 or IPv6."""
        try:
            with entered(netns):
                if up:
                    _bring_up(ifname)
                return Udp6Port(ifname) if version == 6 else PacketPort(ifname)
        except OSError as exc:
            raise _refusal(ifname, exc) from exc


class PacketPort:
    """A packet socket on `ifname` in the calling thread's namespace; opening it raises OSError or Unsupported."""

    def __init__(self, ifname: str) -> None:
        # protocol 0 hears nothing: the filter is there before the first packet
        self._socket = socket.socket(socket.AF_PACKET, _KIND, 0)
        self._routed = socket.socket(socket.AF_INET, _KIND)
        self._bound = False
        try:
            # answers are heard on the packet socket; on this one they stay, so that the kernel does not refuse them
            self._routed.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            self._routed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._routed.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, ifname.encode())
            _attach_filter(self._socket)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            self._socket.bind((ifname, _ETH_P_IP))
            self.mac = bytes(self._socket.getsockname()[4])
            if len(self.mac) != len(_EVERYBODY):
                raise Unsupported(
                    f"DHCP needs an Ethernet interface: the hardware address of {ifname} has {len(self.mac)} bytes"
                )
            self.mtu = _mtu(self._socket, ifname)
        except BaseException:
            self.close()
            raise
        self._ifname = ifname

    def fileno(self) -> int:
        """Give the socket's descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the sockets."""
        self._socket.close()
        self._routed.close()

    def send(self, datagram: Datagram) -> bool:
        """Send from port 68 to port 67; False where the interface is down.

        What nobody answers goes both ways: a kernel that does not know the server's MAC address asks for it first,
        and the interface may be gone by then.
        """
        if datagram.destination != EVERYBODY and self._send_routed(datagram) and not datagram.unanswered:
            return True
        packet = wrap(datagram.payload, IPv4Address(datagram.source), IPv4Address(datagram.destination))
        where = (self._ifname, _ETH_P_IP, 0, 0, datagram.mac or _EVERYBODY)
        return _sent(self._socket, self._ifname, packet, where)

    def _send_routed(self, datagram: Datagram) -> bool:
        """Send by the container's own routes; False where it has not got the address, or its firewall does not let it."""
        try:
            if not self._bound:
                self._routed.bind((str(datagram.source), CLIENT_PORT))
                self._bound = True
            self._routed.sendto(datagram.payload, (str(datagram.destination), SERVER_PORT))
        except OSError:
            return False
        return True

    def receive(self) -> Iterator[Datagram]:
        """Give the DHCP messages that have arrived; what is none is passed over."""
        for _ in range(_AT_ONCE):
            try:
                packet, extra, _, sender = self._socket.recvmsg(_LARGEST, socket.CMSG_SPACE(20))
            except OSError:  # nothing more, or the interface went down
                return
            # a server on this machine leaves the checksum of its packets to a NIC, and a veth has none
            status = next(
                (
                    int.from_bytes(data[:4], sys.byteorder)
                    for level, kind, data in extra
                    if (level, kind) == _AUXDATA
                ),
                0,
            )
            try:
                payload, source, destination = unwrap(packet, summed=not status & _TP_STATUS_CSUMNOTREADY)
            except MalformedError:
                continue
            yield Datagram(payload, source, destination, bytes(sender[4]))


class Udp6Port:
    """A UDP socket on `ifname` in the calling thread's namespace; opening it raises OSError."""

    mac = b""  # a client is known by its DUID

    def __init__(self, ifname: str) -> None:
        self._socket = socket.socket(socket.AF_INET6, _KIND)
        try:
            # other interfaces of the container have clients of their own on the same port
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, ifname.encode())
            self._index = socket.if_nametoindex(ifname)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, self._index)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            self._socket.bind(("::", _CLIENT6_PORT))
            self.mtu = _mtu(self._socket, ifname)
        except BaseException:
            self._socket.close()
            raise
        self._ifname = ifname

    def fileno(self) -> int:
        """Give the socket's descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, datagram: Datagram) -> bool:
        """Send from the link-local address; False where there is none that can be used yet (DAD goes on, or down)."""
        where = (str(datagram.destination), _SERVER6_PORT, 0, self._index)
        return _sent(self._socket, self._ifname, datagram.payload, where)

    def receive(self) -> Iterator[Datagram]:
        """Give the messages that have arrived from servers and relays of this link."""
        for _ in range(_AT_ONCE):
            try:
                payload, (source, port, *_) = self._socket.recvfrom(_LARGEST)
            except OSError:
                return
            address = IPv6Address(source.partition("%")[0])
            if port == _SERVER6_PORT and address.is_link_local:
                yield Datagram(payload, address)


def _attach_filter(packets: socket.socket) -> None:
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in _FILTER))
    # struct sock_fprog: a count and a pointer, which the kernel follows during the call
    packets.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_FILTER), ctypes.addressof(program))
    )


def _mtu(any_socket: socket.socket, ifname: str) -> int:
    answer = fcntl.ioctl(any_socket, _SIOCGIFMTU, _IFREQ_INT.pack(ifname.encode(), 0))
    mtu: int = _IFREQ_INT.unpack(answer)[1]
    return mtu


def _is_running(any_socket: socket.socket, ifname: str) -> bool:
    """Say whether the interface's wire is there; what is brought up may get it a moment later (the kernel's linkwatch)."""
    answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _IFREQ_SHORT.pack(ifname.encode(), 0))
    return bool(_IFREQ_SHORT.unpack(answer)[1] & _IFF_RUNNING)


def _bring_up(ifname: str) -> None:
    route = NetlinkSocket(socket.NETLINK_ROUTE)
    try:
        refusal = route.execute([set_link(ifname, up=True)])[0]
    finally:
        route.close()
    if refusal is not None:
        raise OSError(refusal.errno, os.strerror(refusal.errno))


def _sent(through: socket.socket, ifname: str, data: bytes, where: tuple[object, ...]) -> bool:
    """Send; False where that cannot be now."""
    try:
        if not _is_running(through, ifname):
            return False
        through.sendto(data, where)
    except BlockingIOError:
        return False
    except OSError as exc:
        if exc.errno in _NOT_NOW:
            return False
        raise _refusal(ifname, exc) from exc
    return True


def _refusal(ifname: str, exc: OSError) -> DovetailError:
    if exc.errno in _NO_LINK:
        return NotFound("link", ifname)
    if exc.errno in (errno.EPERM, errno.EACCES):
        return PermissionDenied(
            f"no permission for DHCP on {ifname}",
            hint="DHCP needs CAP_NET_RAW and CAP_NET_ADMIN: run as root",
        )
    return KernelError(f"DHCP cannot use {ifname}: {exc.strerror}", exc.errno or errno.EIO)
