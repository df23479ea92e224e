"""Who has which address of a host-local directory, known without reading ten thousand files each time.

The reference plugin reads every file for every ADD and DEL, to find out whether the container has an address. A
process that stays reads them once: it keeps what it read, and marks the directory (`LeaseFiles.seal`). While the
mark stands, nobody else has made or removed a file, and what is kept is all there is; where it does not, the
directory is read again. The owner of a file is read once more before something depends on it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from itertools import filterfalse

from dovetail.errors import Busy, DovetailError
from dovetail.ipam.host_local_files import LeaseFiles
from dovetail.ipam.host_local_ranges import AddressRange, RangeSet
from dovetail.model.addresses import IPAddress

__all__ = ["Books", "hold"]

_MOST_DIRECTORIES = 256


class Index:
    """What was read of one directory. `mark` 0: not to be relied on.

    held: the owner by family and number; None where the name is taken by what is no file of ours.
    """

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.mark = 0
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self.held: dict[int, dict[int, bytes | None]] = {4: {}, 6: {}}
        self._by_owner: dict[
            bytes, set[IPAddress]
        ] = {}  # one owner may have all: of empty files it is nobody

    def put(self, address: IPAddress, owner: bytes | None) -> None:
        """Note an address that was free."""
        self.held[address.version][int(address)] = owner
        if owner is not None:
            self._by_owner.setdefault(owner, set()).add(address)

    def drop(self, address: IPAddress) -> None:
        """Forget an address."""
        owner = self.held[address.version].pop(int(address), None)
        if owner is not None:
            left = self._by_owner[owner]
            left.discard(address)
            if not left:
                del self._by_owner[owner]

    def of(self, owner: bytes) -> list[IPAddress]:
        """Give an owner's addresses in their order, IPv4 first."""
        return sorted(self._by_owner.get(owner, ()), key=lambda one: (one.version, int(one)))

    def all(self) -> list[tuple[IPAddress, bytes]]:
        """Give every file with its owner."""
        return [(address, owner) for owner, addresses in self._by_owner.items() for address in addresses]


class Books:
    """A directory whose lock is held, with what is known of it. Made by `hold`."""

    def __init__(self, files: LeaseFiles, index: Index) -> None:
        self._files = files
        self._index = index
        self._mark, index.mark = index.mark, 0  # relied on again when all went well
        self._changed = self._mark == 0 or self._mark != files.changed_ns()
        if self._changed:
            self._read()

    def of(self, owner: bytes) -> list[IPAddress]:
        """Give the addresses whose file names `owner`."""
        found = self._index.of(owner)
        if not all(self.names(address, owner) for address in found):  # a file was written over
            self._read()
            found = self._index.of(owner)
        return found

    def all(self) -> list[tuple[IPAddress, bytes]]:
        """Give every address file with its owner."""
        return self._index.all()

    def names(self, address: IPAddress, owner: bytes) -> bool:
        """Say whether an address's file names `owner`, as it is now."""
        return self._files.owner(address) == owner

    def created(self, address: IPAddress) -> float:
        """Give when an address was given, in seconds since 1970."""
        return self._files.created(address)

    def next_free(
        self, ranges: RangeSet, index: int, gateways: Collection[int]
    ) -> tuple[IPAddress, AddressRange] | None:
        """Give the first free address after the last one that was given of range set `index`."""
        held = self._index.held[ranges.version]
        for one, numbers in ranges.spans(self._files.last_reserved(index)):
            for number in filterfalse(held.__contains__, numbers):  # a run of ten thousand in 0.3 ms
                if number not in gateways:
                    return type(one.subnet.network_address)(number), one
        return None

    def take(self, address: IPAddress, owner: bytes) -> bool:
        """Write the address's file; False where there is one, which is then known."""
        self._changed = True
        if self._files.create(address, owner):
            self._index.put(address, owner)
            return True
        if int(address) not in self._index.held[address.version]:
            self._index.put(address, self._files.owner(address))
        return False

    def remember(self, index: int, address: IPAddress) -> None:
        """Write that `address` was the last one given of range set `index`."""
        self._changed = True  # the first time this is a new file
        self._files.set_last_reserved(index, address)

    def give_back(self, address: IPAddress) -> None:
        """Remove an address's file."""
        self._changed = True
        self._files.delete(address)
        self._index.drop(address)

    def settle(self) -> None:
        """Keep what is known for the next time."""
        self._index.mark = self._files.seal() if self._changed else self._mark

    def _read(self) -> None:
        self._changed = True
        self._index.clear()
        for address, regular in self._files.addresses():
            self._index.put(address, self._files.owner(address) if regular else None)


_indexes: OrderedDict[tuple[int, int], Index] = OrderedDict()
_guard = threading.Lock()


def _index_of(identity: tuple[int, int]) -> Index:
    """Give the index of a directory; it serves every network of the process, which is why it is the module's."""
    with _guard:
        index = _indexes.setdefault(identity, Index())
        _indexes.move_to_end(identity)
        while len(_indexes) > _MOST_DIRECTORIES:
            _indexes.popitem(last=False)
        return index


@contextmanager
def hold(files: LeaseFiles, *, timeout_s: float) -> Iterator[Books]:
    """Hold a directory's lock for the ``with``, and close it.

    Threads of this process wait for each other before they wait for other processes, so that one of them polls the
    file's lock and not all. Raises Busy after `timeout_s`, StoreError, PermissionDenied.
    """
    with closing(files), _turn(_index_of(files.identity()), files.path, timeout_s) as index:
        files.lock(timeout_s)
        books = Books(files, index)
        try:
            yield books
        except DovetailError:
            books.settle()
            raise
        books.settle()


@contextmanager
def _turn(index: Index, path: str, timeout_s: float) -> Iterator[Index]:
    if not index.mutex.acquire(timeout=timeout_s):
        raise Busy(f"{path} was held by another operation for more than {timeout_s:g} s", hint="try again")
    try:
        yield index
    finally:
        index.mutex.release()
