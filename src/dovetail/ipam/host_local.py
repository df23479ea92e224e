"""CNI's host-local: addresses of one host, kept as files that the reference plugin reads and writes too."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing

import msgspec

from dovetail.errors import AddressInUse, DovetailError, InvalidArgument, PoolExhausted
from dovetail.ipam.host_local_books import Books, hold
from dovetail.ipam.host_local_files import MOST_BYTES, LeaseFiles
from dovetail.ipam.host_local_ranges import AddressRange, RangeSet, gateways
from dovetail.ipam.usable import check_usable
from dovetail.model.addresses import IPAddress, interface_in
from dovetail.model.allocated import Allocated
from dovetail.model.names import check_name

__all__ = ["DATA_DIR", "HostLocal", "Lease"]

DATA_DIR = "/var/lib/cni/networks"
"""Where the reference plugin keeps its files when the configuration names no ``dataDir``."""
_BREAK = b"\r\n"


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """An address and who has it since `created` (seconds since 1970).

    `ifname` is empty in files of old versions of the reference plugin; `container` too where a file
    names nobody: its writer was killed, or something else wrote it.
    """

    address: IPAddress
    container: str
    ifname: str
    created: float


class HostLocal:
    """The addresses of one network. Safe under threads and processes, ours and the reference plugin's.

    Needs to read and write `data_dir`, and nothing of the kernel. Every method raises StoreError and
    PermissionDenied; those that take the lock raise Busy.
    """

    def __init__(self, data_dir: str, network: str, *, timeout_s: float = 20.0) -> None:
        """Keep the addresses of `network` in a directory of its name under `data_dir`, an absolute path.

        timeout_s: how long to wait for the lock. Raises InvalidArgument for names that are no names.
        """
        if not data_dir.startswith("/"):
            raise InvalidArgument(
                f"{data_dir!r} is not an absolute path",
                where="$.ipam.dataDir",
                hint=f"the usual one is {DATA_DIR}",
            )
        self._path = os.path.join(os.path.normpath(data_dir), check_name("network", network, where="$.name"))
        self._timeout_s = timeout_s

    def add(
        self,
        container: str,
        ifname: str,
        range_sets: Sequence[RangeSet],
        requested: Sequence[IPAddress] = (),
    ) -> list[Allocated]:
        """Give one address out of each range set: a requested one that is in it, or the next free one.

        All or none. Never a gateway of the set, a network or a broadcast address. Raises AddressInUse (a
        requested address is taken, or the interface has one of the set already), PoolExhausted and
        InvalidArgument (a requested address is a gateway, or in no set).
        """
        owner = _owner(container, ifname)
        if len(owner) > MOST_BYTES:
            raise InvalidArgument(
                "the id is too long", where="CNI_CONTAINERID", hint=f"{MOST_BYTES} bytes at most"
            )
        skipped = {version: gateways(range_sets, version) for version in (4, 6)}
        wanted = _placed(range_sets, requested, skipped)
        given = []
        with hold(LeaseFiles.make(self._path), timeout_s=self._timeout_s) as books, ExitStack() as undo:
            for index, (ranges, request) in enumerate(zip(range_sets, wanted, strict=True)):
                try:
                    _refuse_second(books, ranges, owner)
                    if request is None:
                        address, found = _next(books, index, ranges, owner, skipped[ranges.version])
                    else:
                        address, found = request
                        _take(books, address, ranges, owner)
                except (AddressInUse, PoolExhausted) as exc:
                    raise type(exc)(
                        f"failed to allocate for range {index}: {exc.message}", hint=exc.hint
                    ) from exc
                undo.callback(books.give_back, address)
                books.remember(index, address)
                given.append(Allocated(address=interface_in(address, found.subnet), gateway=found.gateway))
            undo.pop_all()
        return given

    def delete(self, container: str, ifname: str) -> list[IPAddress]:
        """Give back what a container's interface has, and what it had in old files without interfaces; say what.

        Nothing to give back is no error. Files that are empty go as well: their writer was killed, as
        whoever writes holds the lock.
        """
        files = LeaseFiles.find(self._path)
        if files is None:
            return []
        with hold(files, timeout_s=self._timeout_s) as books:
            owner = _owner(container, ifname)
            found = books.of(owner) or books.of(container.encode())
            _give_back(books, [*found, *books.of(b"")])
        return found

    def check(self, container: str, ifname: str, addresses: Collection[IPAddress] = ()) -> list[str]:
        """Say which of `addresses` are not the container's; with none given, that it has none. Changes nothing."""
        files = LeaseFiles.find(self._path)
        owners = {_owner(container, ifname), container.encode()}
        missing = f"host-local: Failed to find address added by container {container}"
        if files is None:
            return [missing]
        with closing(files):
            if not addresses:
                any_file = any(regular and files.owner(one) in owners for one, regular in files.addresses())
                return [] if any_file else [missing]
            found = [(address, files.owner(address)) for address in addresses]
        return [
            f"{missing}: {address} belongs to {_read_owner(owner)[0] or 'nobody'}"
            for address, owner in found
            if owner not in owners
        ]

    def gc(self, valid: Collection[tuple[str, str]]) -> list[Lease]:
        """Give back what belongs to no (container, ifname) of `valid`; say what. Goes on past failures, raises them all.

        A file of an old version, which names no interface, stays with any of its container's.
        """
        files = LeaseFiles.find(self._path)
        if files is None:
            return []
        known, containers = set(valid), {container for container, _ in valid}
        stale = []
        with hold(files, timeout_s=self._timeout_s) as books:
            for address, content in books.all():
                container, ifname = _read_owner(content)
                stays = (container, ifname) in known if ifname else container in containers
                if not stays and books.names(address, content):
                    created = books.created(address)
                    stale.append(Lease(address=address, container=container, ifname=ifname, created=created))
            _give_back(books, [lease.address for lease in stale])
        return stale

    def status(self, range_sets: Sequence[RangeSet]) -> None:
        """Raise PoolExhausted where the next `add` would find no address, StoreError where it could write none.

        Changes nothing, waits for nobody.
        """
        files = LeaseFiles.find(self._path)
        used: list[IPAddress] = []
        if files is not None:
            with closing(files):
                files.refuse_read_only()
                used = [address for address, _ in files.addresses()]
        for ranges in range_sets:
            skipped = gateways(range_sets, ranges.version)
            numbers = [int(one) for one in used if one.version == ranges.version and int(one) not in skipped]
            taken = sum(number in span for _, span in ranges.spans() for number in numbers)
            if taken >= ranges.capacity(skipped):
                raise _exhausted(ranges)

    def leases(self) -> list[Lease]:
        """List who has which address, by address. Changes nothing, waits for nobody."""
        files = LeaseFiles.find(self._path)
        if files is None:
            return []
        found = []
        with closing(files):
            for address, regular in files.addresses():
                content = files.owner(address) if regular else None
                if content is not None:
                    container, ifname = _read_owner(content)
                    created = files.created(address)
                    found.append(Lease(address=address, container=container, ifname=ifname, created=created))
        return sorted(found, key=lambda lease: (lease.address.version, int(lease.address)))


def _owner(container: str, ifname: str) -> bytes:
    """Write whom a file names."""
    return container.encode() + _BREAK + ifname.encode()


def _read_owner(content: bytes | None) -> tuple[str, str]:
    """Read container and interface of a file; two empty words where it names nobody."""
    container, _, ifname = (content or b"").partition(_BREAK)
    try:
        found = container.decode(), ifname.decode()
    except UnicodeDecodeError:
        return "", ""
    return found if all(part.isprintable() for part in found) else ("", "")


def _placed(
    range_sets: Sequence[RangeSet], requested: Sequence[IPAddress], skipped: Mapping[int, Collection[int]]
) -> list[tuple[IPAddress, AddressRange] | None]:
    """Give each range set the first requested address that is in it, with its range; none may be left over."""
    left = list(dict.fromkeys(requested))
    placed: list[tuple[IPAddress, AddressRange] | None] = []
    for index, ranges in enumerate(range_sets):
        pairs = ((address, ranges.find(address)) for address in left)
        address, found = next((pair for pair in pairs if pair[1] is not None), (None, None))
        if address is None or found is None:
            placed.append(None)
            continue
        left.remove(address)
        failed = f"failed to allocate for range {index}: requested ip"
        if int(address) in skipped[address.version]:
            raise InvalidArgument(f"{failed} {address} is subnet's gateway", hint="ask for another address")
        try:
            check_usable(address, found.subnet)
        except InvalidArgument as exc:
            raise InvalidArgument(f"{failed} {exc.message}", hint=exc.hint) from exc
        placed.append((address, found))
    if left:
        raise InvalidArgument(
            f"failed to allocate all requested IPs: {' '.join(str(one) for one in left)}",
            hint="each range set gives one address: see that every one is in a set, and no two in the same",
        )
    return placed


def _refuse_second(books: Books, ranges: RangeSet, owner: bytes) -> None:
    """Raise AddressInUse where the interface has an address of the set (CNI SPEC: ADD twice without DEL is an error)."""
    container = owner.partition(_BREAK)[0]
    for address in (*books.of(owner), *books.of(container)):
        if ranges.find(address) is not None:
            raise AddressInUse(
                f"{address} has been allocated to {container.decode()}, duplicate allocation is not allowed",
                hint="DEL gives it back",
            )


def _take(books: Books, address: IPAddress, ranges: RangeSet, owner: bytes) -> None:
    if not books.take(address, owner):
        raise AddressInUse(
            f"requested IP address {address} is not available in range set {ranges}",
            hint="ask for another address, or delete the container that has it",
        )


def _next(
    books: Books, index: int, ranges: RangeSet, owner: bytes, skipped: Collection[int]
) -> tuple[IPAddress, AddressRange]:
    while (free := books.next_free(ranges, index, skipped)) is not None:
        if books.take(free[0], owner):
            return free
    raise _exhausted(ranges)


def _exhausted(ranges: RangeSet) -> PoolExhausted:
    return PoolExhausted(
        f"no IP addresses available in range set: {ranges}",
        hint="GC gives back what containers that are gone have left; or add a range",
    )


def _give_back(books: Books, addresses: Iterable[IPAddress]) -> None:
    failures: list[DovetailError] = []
    for address in addresses:
        try:
            books.give_back(address)
        except DovetailError as exc:
            failures.append(exc)
    if failures:
        raise ExceptionGroup("addresses could not be given back", failures)
