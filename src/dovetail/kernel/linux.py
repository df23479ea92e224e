"""The kernel itself: every verb of the `Kernel` protocol as netlink messages, sysctl writes and mounts."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property

from dovetail.errors import AlreadyExists, DovetailError, KernelError, NotFound, PermissionDenied, Unsupported
from dovetail.kernel import conntrack, netns, rtnl
from dovetail.kernel.elements import Elements
from dovetail.kernel.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Failure, Message, NetlinkSocket
from dovetail.kernel.protocol import Kernel, KernelRoute, Link, LinkSpec, Netns
from dovetail.model.addresses import IPAddress, IPInterface
from dovetail.model.attachment import Route
from dovetail.model.element import Element
from dovetail.model.mac import Mac

__all__ = ["LinuxKernel"]

_PROGRAM_TIMEOUT_S = 30
_SOCKET_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}
_IPPROTO = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}


class LinuxKernel:
    """A handle on the network namespace in which it was made, or, from `inside`, on another one."""

    def __init__(self, entered: Netns | None = None) -> None:
        """Open the rtnetlink socket; `entered` is the namespace the calling thread is in now."""
        self._netns = entered
        self._inode = entered.inode if entered is not None else netns.current_inode()
        self._route = NetlinkSocket(NETLINK_ROUTE)
        self._local = threading.local()

    @cached_property
    def _netfilter(self) -> NetlinkSocket:
        return NetlinkSocket(NETLINK_NETFILTER)

    @cached_property
    def _elements(self) -> Elements:
        return Elements(self._netfilter)

    # -- namespaces -------------------------------------------------------------------------------

    @property
    def netns_inode(self) -> int:
        """Inode of this handle's namespace."""
        return self._inode

    def open_netns(self, path: str) -> Netns:
        """Open a namespace by path."""
        return netns.open_path(path)

    def netns_from_fd(self, fd: int, path: str = "") -> Netns:
        """Adopt an open descriptor."""
        return netns.from_fd(fd, path)

    def create_netns(self, path: str) -> Netns:
        """Make a namespace and bind-mount it at `path`."""
        return netns.create(path)

    def delete_netns(self, path: str) -> None:
        """Unmount and remove `path`."""
        netns.delete(path)

    @contextlib.contextmanager
    def inside(self, netns: Netns) -> Iterator[Kernel]:
        """Give a handle to `netns`; its sockets are opened there, the thread is back at once."""
        with _entered(netns):
            handle = LinuxKernel(netns)
        try:
            yield handle
        finally:
            handle.close()

    def close(self) -> None:
        """Close the sockets."""
        self._route.close()
        if "_netfilter" in self.__dict__:
            self._netfilter.close()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Collect this thread's changes and send them in one go at the end."""
        if getattr(self._local, "queue", None) is not None:
            yield
            return
        self._local.queue = []
        try:
            yield
            self._flush()
        finally:
            self._local.queue = None

    def _flush(self) -> None:
        queue: list[Message] = self._local.queue
        if queue:
            self._local.queue = []
            self._send(queue)

    def _submit(self, *messages: Message) -> None:
        queue: list[Message] | None = getattr(self._local, "queue", None)
        if queue is not None:
            queue.extend(messages)
        else:
            self._send(messages)

    def _send(self, messages: Collection[Message]) -> None:
        sent = list(messages)
        for message, failure in zip(sent, self._route.transact(sent), strict=True):
            if failure is not None:
                raise _meaning(failure, message.words)

    # -- links ------------------------------------------------------------------------------------

    def link(self, name: str) -> Link | None:
        """Look one link up by name."""
        answer = self._route.get(rtnl.RTM_GETLINK, rtnl.link_by_name(name))
        if isinstance(answer, Failure):
            if answer.errno in {errno.ENODEV, errno.ERANGE, errno.EINVAL}:
                return None
            raise _meaning(answer, f"ip link show {name}")
        return rtnl.read_link(answer)

    def links(self) -> list[Link]:
        """List all links."""
        return [
            rtnl.read_link(reply) for reply in self._dump(rtnl.RTM_GETLINK, rtnl.get_link(), "ip link show")
        ]

    def add_bridge(self, name: str, *, mac: Mac | None = None, mtu: int = 0, alias: str = "") -> None:
        """``ip link add NAME type bridge``."""
        messages = [rtnl.add_bridge(name, mac, mtu)]
        if alias:
            messages.append(rtnl.set_link(name, up=None, mtu=None, mac=None, master=None, alias=alias))
        self._submit(*messages)

    def add_veth(self, end: LinkSpec, peer: LinkSpec) -> None:
        """Make a veth pair in one send."""
        master = self._index(end.master) if end.master else 0
        messages = [rtnl.new_veth(end, peer, master)]
        for spec in (end, peer):
            if spec.alias and spec.netns is None:
                messages.append(
                    rtnl.set_link(spec.name, up=None, mtu=None, mac=None, master=None, alias=spec.alias)
                )
        if end.hairpin or end.isolated:
            messages.append(
                rtnl.port_flags(end.name, hairpin=end.hairpin or None, isolated=end.isolated or None)
            )
        self._submit(*messages)

    def set_link(
        self,
        name: str,
        *,
        up: bool | None = None,
        mtu: int | None = None,
        mac: Mac | None = None,
        master: str | None = None,
        alias: str | None = None,
    ) -> None:
        """``ip link set``."""
        index = None if master is None else self._index(master) if master else 0
        self._submit(rtnl.set_link(name, up=up, mtu=mtu, mac=mac, master=index, alias=alias))

    def set_bridge_port(
        self, name: str, *, hairpin: bool | None = None, isolated: bool | None = None
    ) -> None:
        """``bridge link set dev NAME``."""
        self._submit(rtnl.port_flags(name, hairpin=hairpin, isolated=isolated))

    def delete_links(self, names: Iterable[str]) -> None:
        """``ip link del`` for each, in one send; missing ones are no error."""
        messages = [rtnl.delete_link(name) for name in dict.fromkeys(names)]
        if not messages:
            return
        for message, failure in zip(messages, self._route.transact(messages), strict=True):
            if failure is not None and failure.errno != errno.ENODEV:
                raise _meaning(failure, message.words)

    # -- addresses, routes --------------------------------------------------------------------------

    def add_address(self, link: str, address: IPInterface, *, dad: bool = False) -> None:
        """``ip addr add``."""
        words = f"ip addr add {address} dev {link}"
        self._submit(rtnl.address_change(rtnl.RTM_NEWADDR, self._index(link), address, dad=dad, words=words))

    def delete_address(self, link: str, address: IPInterface) -> None:
        """``ip addr del``; a missing address, or link, is no error."""
        found = self.link(link)
        if found is None:
            return
        words = f"ip addr del {address} dev {link}"
        message = rtnl.address_change(rtnl.RTM_DELADDR, found.ifindex, address, dad=True, words=words)
        failure = self._route.transact([message])[0]
        if failure is not None and failure.errno not in {errno.EADDRNOTAVAIL, errno.ENODEV}:
            raise _meaning(failure, words)

    def addresses(self, link: str = "") -> list[tuple[str, IPInterface]]:
        """List (link name, address), of one link or of all."""
        names = {found.ifindex: found.name for found in self.links() if link in {"", found.name}}
        replies = self._dump(rtnl.RTM_GETADDR, rtnl.ifaddrmsg(), "ip addr show")
        pairs = [rtnl.read_address(reply) for reply in replies]
        return [(names[index], address) for index, address in pairs if index in names]

    def add_route(self, link: str, route: Route) -> None:
        """``ip route add``."""
        via = f"via {route.gateway} " if route.gateway else ""
        self._submit(
            rtnl.new_route(self._index(link), route, f"ip route add {route.destination} {via}dev {link}")
        )

    def routes(self) -> list[KernelRoute]:
        """List the unicast routes of the main table, both families."""
        names = {link.ifindex: link.name for link in self.links()}
        found = (
            rtnl.read_route(reply) for reply in self._dump(rtnl.RTM_GETROUTE, rtnl.rtmsg(), "ip route show")
        )
        return [
            KernelRoute(dst, gateway, names.get(index, "")) for dst, gateway, index in filter(None, found)
        ]

    # -- sysctl -------------------------------------------------------------------------------------

    def sysctl(self, key: str) -> str | None:
        """Read a ``net/…`` sysctl of this namespace."""
        with self._at_home():
            try:
                with open(_sysctl_path(key), encoding="ascii") as file:
                    return file.read().strip()
            except FileNotFoundError:
                return None
            except OSError as exc:
                raise KernelError(f"sysctl {key}: {exc.strerror}", exc.errno or errno.EIO) from exc

    def set_sysctl(self, key: str, value: str) -> None:
        """Write a ``net/…`` sysctl of this namespace where it differs."""
        if self.sysctl(key) == value:
            return
        with self._at_home():
            try:
                with open(_sysctl_path(key), "w", encoding="ascii") as file:
                    file.write(value)
            except FileNotFoundError as exc:
                raise Unsupported(f"this kernel has no sysctl {key}") from exc
            except PermissionError as exc:
                raise PermissionDenied(f"no permission to write sysctl {key}", hint="run as root") from exc
            except OSError as exc:
                raise KernelError(f"sysctl {key}={value}: {exc.strerror}", exc.errno or errno.EIO) from exc

    # -- nftables -----------------------------------------------------------------------------------

    def nft_apply(self, ruleset: str) -> None:
        """``nft -f -``."""
        done = self._run(["nft", "-f", "-"], ruleset)
        if done is None:
            raise Unsupported("the program nft is not installed", hint="apt-get install nftables")
        code, errors = done
        if code != 0:
            if "Operation not permitted" in errors:
                raise PermissionDenied("no permission to change nftables", hint="run as root (CAP_NET_ADMIN)")
            raise KernelError(f"nft refused the ruleset: {' '.join(errors.split())}", errno.EINVAL)

    def nft_has_table(self) -> bool:
        """Say whether ``table inet dovetail`` is there."""
        return self._elements.has_table()

    def nft_add_elements(self, elements: Collection[Element]) -> None:
        """Add elements in one transaction."""
        self._elements.add(elements)

    def nft_delete_elements(self, elements: Collection[Element]) -> None:
        """Delete elements; missing ones are no error."""
        self._elements.delete(elements)

    def nft_elements(self) -> set[Element]:
        """Read every element."""
        return self._elements.all() if self.nft_has_table() else set()

    # -- the host's other firewall, connection tracking, sockets --------------------------------------

    def forward_policies(self) -> dict[str, bool]:
        """Say per program whether FORWARD drops by policy."""
        return self._elements.forward_policies()

    def iptables(self, program: str, *args: str) -> bool:
        """Run iptables or ip6tables; True when it exits 0."""
        done = self._run([program, "--wait", "10", *args], "")
        return done is not None and done[0] == 0

    def flush_conntrack(self, protocol: str, *, port: int = 0, address: IPAddress | None = None) -> None:
        """Forget tracked flows."""
        conntrack.flush(self._netfilter, protocol, port=port, address=address)

    def port_is_free(self, protocol: str, address: IPAddress | None, port: int) -> bool:
        """Bind a socket and close it."""
        families = [(address.version, str(address))] if address else [(4, "0.0.0.0"), (6, "::")]  # noqa: S104
        with self._at_home():
            return all(_can_bind(protocol, version, host, port) for version, host in families)

    # -- pieces -----------------------------------------------------------------------------------

    def _index(self, name: str) -> int:
        found = self.link(name)
        if found is None and getattr(self._local, "queue", None):
            self._flush()  # it may be made by a message that still waits
            found = self.link(name)
        if found is None:
            raise NotFound("link", name)
        return found.ifindex

    def _dump(self, kind: int, payload: bytes, words: str) -> list[bytes]:
        found = self._route.dump(kind, payload)
        if isinstance(found, Failure):
            raise _meaning(found, words)
        return found

    def _at_home(self) -> contextlib.AbstractContextManager[None]:
        """Have the thread in this handle's namespace: /proc/sys/net and sockets are those of the opening thread."""
        return _entered(self._netns) if self._netns is not None else contextlib.nullcontext()

    def _run(self, command: list[str], stdin: str) -> tuple[int, str] | None:
        import subprocess

        with self._at_home():
            try:
                done = subprocess.run(
                    command,
                    input=stdin,
                    capture_output=True,
                    text=True,
                    timeout=_PROGRAM_TIMEOUT_S,
                    check=False,
                )
            except FileNotFoundError:
                return None
            except subprocess.TimeoutExpired as exc:
                raise KernelError(
                    f"{command[0]} did not end within {_PROGRAM_TIMEOUT_S} s", errno.ETIMEDOUT
                ) from exc
        return done.returncode, done.stderr


def _entered(namespace: Netns) -> contextlib.AbstractContextManager[None]:
    return netns.entered(namespace.fileno())


def _sysctl_path(key: str) -> str:
    parts = key.split("/")
    if parts[0] != "net" or any(part in {"", ".", ".."} for part in parts):
        raise KernelError(f"{key!r} is not a net sysctl", errno.EINVAL)
    return os.path.join("/proc/sys", *parts)


def _can_bind(protocol: str, version: int, host: str, port: int) -> bool:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    try:
        probe = socket.socket(family, _SOCKET_TYPES[protocol], _IPPROTO[protocol])
    except OSError:
        return True  # no sockets of this family or protocol: nobody can hold the port
    with probe:
        if version == 6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            return exc.errno not in {errno.EADDRINUSE, errno.EACCES}
    return True


def _meaning(failure: Failure, words: str) -> DovetailError:
    name = words.split()[3] if len(words.split()) > 3 else words
    if failure.errno in {errno.EPERM, errno.EACCES}:
        return PermissionDenied(f"no permission for: {words}", hint="run as root (CAP_NET_ADMIN)")
    if failure.errno == errno.EEXIST and " add " in words:
        return AlreadyExists(words.split()[1].replace("addr", "address"), name)
    if failure.errno == errno.ENODEV:
        return NotFound("link", name)
    if failure.errno == errno.EOPNOTSUPP:
        return Unsupported(
            f"this kernel cannot do: {words}" + (f" ({failure.extack})" if failure.extack else "")
        )
    return failure.error(words)
