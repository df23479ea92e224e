"""Who has which name, on one network and in one sandbox's view of its networks.

A `Zone` is one network's names at one moment. It is never changed: `with_host` and `without` give the next one, and
whoever answers from the old one goes on undisturbed. All that a look-up needs is a dictionary's key, so an answer
costs the same whatever the number of hosts. A `View` is what one sandbox sees: the networks that it is on, in order.

Names here are in the wire's form and lower case (see `message`), the key under which a question finds them. Text that no question can
ask for (a label of 70 characters) is left out: a container of that name must not take the others' names with it.

Source: docker's resolver, moby `daemon/libnetwork/sandbox.go` (ResolveName) in what is answered and in which order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dovetail.dns.message import name_from_text
from dovetail.errors import InvalidArgument
from dovetail.model.addresses import IPAddress
from dovetail.model.endpoint import Endpoint

__all__ = ["Host", "Service", "Target", "View", "Zone", "host_of"]


class Service(NamedTuple):
    """A port that a host offers under a service's name: ``http``, ``tcp``, 80 answers ``_http._tcp.NAME``.

    Source: RFC 2782, RFC 6335 §5.1 (names of services, without the underscore).
    """

    name: str
    protocol: str
    port: int
    priority: int = 0
    weight: int = 0


class Host(NamedTuple):
    """An endpoint as its network's other endpoints name it.

    id: tells it from others; the endpoint's. names: its name and its aliases, which it may share with other hosts;
    the first is the one that its addresses are given (PTR).
    """

    id: str
    names: tuple[str, ...]
    addresses: tuple[IPAddress, ...]
    services: tuple[Service, ...] = ()


class Target(NamedTuple):
    """Where a service is: the host's name in the wire's form and in its own case, and how to reach it."""

    name: bytes
    service: Service
    addresses: tuple[IPAddress, ...]


def host_of(endpoint: Endpoint, *names: str, services: Iterable[Service] = ()) -> Host:
    """Make a host of an endpoint: its name and its aliases, then `names` that only the caller knows (a short id)."""
    every = dict.fromkeys(name for name in (endpoint.name, *endpoint.aliases, *names) if name)
    addresses = tuple(each.ip for each in endpoint.addresses)
    return Host(endpoint.id, tuple(every), addresses, tuple(services))


class _Tables:
    """A zone's hosts by id, by name and by address in reverse; changed until a zone has them."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self.named: dict[bytes, tuple[Host, ...]] = {}
        self.reversed: dict[bytes, tuple[Host, ...]] = {}

    def copy(self) -> _Tables:
        tables = _Tables()
        tables.hosts, tables.named, tables.reversed = dict(self.hosts), dict(self.named), dict(self.reversed)
        return tables

    def put(self, host: Host) -> None:
        """Add a host in place of what had its id."""
        self.remove(host.id)
        self.hosts[host.id] = host
        for table, key in self._entries(host):
            table[key] = (*table.get(key, ()), host)

    def remove(self, identifier: str) -> None:
        host = self.hosts.pop(identifier, None)
        if host is None:
            return
        for table, key in self._entries(host):
            rest = tuple(each for each in table[key] if each.id != identifier)
            if rest:
                table[key] = rest
            else:
                del table[key]

    def _entries(self, host: Host) -> Iterator[tuple[dict[bytes, tuple[Host, ...]], bytes]]:
        """Give each table and key that `host` stands under, once."""
        for key in {_key(name) for name in host.names} - {b""}:
            yield self.named, key
        for address in set(host.addresses):
            yield self.reversed, _key(address.reverse_pointer)


class Zone:
    """One network's names; never changed."""

    def __init__(self, network: str, hosts: Iterable[Host] = ()) -> None:
        """Make the zone of the network of that name, which ends its hosts' names in full (``web.net``)."""
        self.network = network
        self._suffix = _wire(network)
        self._ending = self._suffix.lower()
        self._tables = _Tables()
        for host in hosts:
            self._tables.put(host)

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts, in the order in which they came."""
        return tuple(self._tables.hosts.values())

    def with_host(self, host: Host) -> Zone:
        """Give the zone with `host`, in place of what had its id."""
        tables = self._tables.copy()
        tables.put(host)
        return self._with(tables)

    def without(self, identifier: str) -> Zone:
        """Give the zone without that host; one that is not there is no error."""
        tables = self._tables.copy()
        tables.remove(identifier)
        return self._with(tables)

    def named(self, key: bytes) -> tuple[Host, ...]:
        """Give the hosts that have the name `key`, alone."""
        return self._tables.named.get(key, ())

    def full_named(self, key: bytes) -> tuple[Host, ...]:
        """Give the hosts that have the name `key` in full, with the network's behind it.

        An ending that matches in the middle of a label leaves a start that is no name, and so nobody's.
        """
        if self._ending and key.endswith(self._ending):
            return self._tables.named.get(key[: -len(self._ending)], ())
        return ()

    def pointed(self, key: bytes) -> tuple[Host, ...]:
        """Give the hosts whose address is written as the name `key`, as ``4.3.2.10.in-addr.arpa``."""
        return self._tables.reversed.get(key, ())

    def full_name(self, host: Host) -> bytes:
        """Write a host's first name that can be asked for, with the network's behind it; empty where there is none."""
        for name in host.names:
            wire = _wire(name)
            if wire and len(wire) + len(self._suffix) < 255:  # RFC 1035 §2.3.4
                return wire + self._suffix
        return b""

    def _with(self, tables: _Tables) -> Zone:
        zone = Zone(self.network)
        zone._tables = tables  # of its own class
        return zone


class View:
    """What one sandbox sees: the zones of its networks, the first asked first."""

    def __init__(self, zones: Iterable[Zone] = ()) -> None:
        self.zones = tuple(zones)

    def addresses(self, key: bytes, version: int) -> tuple[IPAddress, ...] | None:
        """Give the addresses of a family (0: of both) of who has that name; None where nobody has it.

        The first network that has any decides, as a name means one network's host; a host that is known without an
        address of the family gives none, so that nobody else is asked for it.
        """
        known = False
        for _, hosts in self._found(key):
            known = True
            every = (address for host in hosts for address in host.addresses)
            # by their bytes: an address hashes its hexadecimal text, 10 times as slowly
            wanted = {address.packed: address for address in every if version in (0, address.version)}
            if wanted:
                return tuple(wanted.values())
        return () if known else None

    def names(self, key: bytes) -> tuple[bytes, ...]:
        """Give the names in full of who has the address that is written as `key`."""
        for zone in self.zones:
            names = dict.fromkeys(zone.full_name(host) for host in zone.pointed(key))
            names.pop(b"", None)
            if names:
                return tuple(names)
        return ()

    def services(self, key: bytes) -> tuple[Target, ...] | None:
        """Give where the service ``_http._tcp.NAME`` is; None where it has another form, or nobody has that name."""
        parts = _service(key)
        if parts is None:
            return None
        name, protocol, owner = parts
        known = False
        for zone, hosts in self._found(owner):
            known = True
            targets = [
                Target(zone.full_name(host), service, host.addresses)
                for host in hosts
                for service in host.services
                if (service.name.lower(), service.protocol.lower()) == (name, protocol)
            ]
            targets = [target for target in targets if target.name]
            if targets:
                return tuple(targets)
        return () if known else None

    def knows(self, key: bytes) -> bool:
        """Say whether the name is anybody's, be it as an address in reverse."""
        return any(True for _ in self._found(key)) or any(zone.pointed(key) for zone in self.zones)

    def _found(self, key: bytes) -> Iterator[tuple[Zone, tuple[Host, ...]]]:
        """Give the zones that know a name with its hosts: by the name alone, then by the name in full."""
        for zone in self.zones:
            hosts = zone.named(key)
            if hosts:
                yield zone, hosts
        for zone in self.zones:
            hosts = zone.full_named(key)
            if hosts:
                yield zone, hosts


def _wire(text: str) -> bytes:
    """Write a name as it is on the wire, in its own case; empty where it cannot be asked for."""
    try:
        return name_from_text(text)
    except InvalidArgument:
        return b""


def _key(text: str) -> bytes:
    return _wire(text).lower()


def _service(key: bytes) -> tuple[str, str, bytes] | None:
    """Take ``_http._tcp.NAME`` apart (RFC 2782)."""
    labels, at = [], 0
    for _ in range(2):
        if at >= len(key) or key[at] < 2 or key[at + 1 : at + 2] != b"_":
            return None
        labels.append(key[at + 2 : at + 1 + key[at]].decode("latin-1"))
        at += 1 + key[at]
    return (labels[0], labels[1], key[at:]) if at < len(key) else None
