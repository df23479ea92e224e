r"""The files of CNI's host-local: one directory a network, one file an address.

::

    DATA_DIR/NETWORK             0755
      10.0.0.2                   0600  CONTAINER \r\n IFNAME, without a line end
      last_reserved_ip.0         0600  the last address given of range set 0
      lock                       0750  held with flock(2) by whoever changes something

Byte for byte what the reference plugin writes (cni.md §2.6), so that both can share a directory. What is found
there is not trusted: names that are no address are ignored, nothing but regular files is read, no link is followed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, inet_ntop, inet_pton

from dovetail.errors import Busy, DovetailError, InvalidArgument, PermissionDenied, StoreError
from dovetail.model.addresses import IPAddress

__all__ = ["MOST_BYTES", "LeaseFiles"]

MOST_BYTES = 4096
"""Read of a file, and so the longest owner that can be written."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not make us wait
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK, _LAST = "lock", "last_reserved_ip."
_POLL_FIRST_S, _POLL_LAST_S = 0.0002, 0.005
_PAST_NS = 10_000_000_000  # file systems store times of change to 2 s at the coarsest
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM}
_NOT_OURS = {errno.ELOOP, errno.ENOTDIR, errno.EISDIR}


class LeaseFiles:
    """The directory of one network, open. Every method raises StoreError, PermissionDenied or Busy for what fails."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._lock = -1

    @classmethod
    def find(cls, path: str) -> LeaseFiles | None:
        """Open the directory; None where it is missing."""
        with _translated(path):
            try:
                return cls(path, os.open(path, _DIRECTORY))
            except FileNotFoundError:
                return None

    @classmethod
    def make(cls, path: str) -> LeaseFiles:
        """Open the directory, which is made where it is missing (0755, and what is missing above it)."""
        found = cls.find(path)
        if found is not None:
            return found
        with _translated(path):
            _make(path)
            return cls(path, os.open(path, _DIRECTORY))

    def close(self) -> None:
        """Close it; lets go of the lock."""
        os.close(self._fd)
        if self._lock >= 0:
            os.close(self._lock)

    def lock(self, timeout_s: float) -> None:
        """Hold the directory's lock until `close`. Raises Busy after `timeout_s`.

        A blocking flock(2) cannot be given a deadline without a signal, so it is tried again and again; the
        reference plugin waits for ever, and thousands of its processes have been seen to queue (cni.md §5, 21).
        """
        path = f"{self.path}/{_LOCK}"
        with _translated(path):
            self._lock = os.open(_LOCK, _READ | os.O_CREAT, 0o750, dir_fd=self._fd)
            if not stat.S_ISREG(os.fstat(self._lock).st_mode):
                raise StoreError(f"{path} is not a file", hint="remove it")
            deadline, wait = time.monotonic() + timeout_s, _POLL_FIRST_S
            while not _try_lock(self._lock):
                if time.monotonic() >= deadline:
                    raise Busy(
                        f"{path} was held by another process for more than {timeout_s:g} s",
                        hint=f"try again; fuser {path} shows who has it",
                    )
                time.sleep(wait * (0.5 + random.random()))  # noqa: S311 - so that waiting processes do not march in step
                wait = min(wait * 2, _POLL_LAST_S)
            if os.fstat(self._lock).st_nlink == 0 or os.fstat(self._fd).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "removed", path)

    def refuse_read_only(self) -> None:
        """Raise StoreError where no file can be made here: a file system that was mounted, or went, read-only."""
        if not os.access(".", os.W_OK, dir_fd=self._fd):
            raise StoreError(f"{self.path} cannot be written", hint="see how its file system is mounted")

    def identity(self) -> tuple[int, int]:
        """Give device and inode."""
        found = os.fstat(self._fd)
        return found.st_dev, found.st_ino

    def changed_ns(self) -> int:
        """Give the time of the last change to the list of files."""
        return os.fstat(self._fd).st_mtime_ns

    def seal(self) -> int:
        """Set the time of the last change to one that no change can give, and give it; 0 where that fails.

        As long as it stands, nobody has made or removed a file. A time of the present would not do: kernels
        before 6.13 count it in jiffies, so that two changes may have the same.
        """
        found = os.fstat(self._fd)
        mark = time.time_ns() - _PAST_NS - random.getrandbits(30)  # and unlike another process's
        try:
            os.utime(self._fd, ns=(found.st_atime_ns, mark))
        except OSError:
            return 0
        return mark if self.changed_ns() == mark else 0

    def addresses(self) -> list[tuple[IPAddress, bool]]:
        """List the addresses that are files, and whether each is a regular one."""
        with _translated(self.path), os.scandir(self._fd) as entries:
            return [
                (address, entry.is_file(follow_symlinks=False))
                for entry in entries
                if (address := _named(entry.name)) is not None
            ]

    def owner(self, address: IPAddress) -> bytes | None:
        """Read whom a file names, without the white space around it; None where there is no such file of ours."""
        found = self._read(str(address))
        return None if found is None else found.strip()

    def created(self, address: IPAddress) -> float:
        """Give when a file was written, in seconds since 1970; 0.0 where it is gone."""
        try:
            return os.stat(str(address), dir_fd=self._fd, follow_symlinks=False).st_mtime
        except OSError:
            return 0.0

    def create(self, address: IPAddress, owner: bytes) -> bool:
        """Write a file for `address`; False where there is one."""
        name = str(address)
        with _translated(f"{self.path}/{name}"):
            try:
                fd = os.open(name, _WRITE | os.O_EXCL, 0o600, dir_fd=self._fd)
            except FileExistsError:
                return False
            try:
                _write(fd, owner)
            except OSError:
                os.unlink(name, dir_fd=self._fd)
                raise
            finally:
                os.close(fd)
        return True

    def delete(self, address: IPAddress) -> None:
        """Remove a file; one that is gone is no error."""
        name = str(address)
        with _translated(f"{self.path}/{name}"):
            try:
                os.unlink(name, dir_fd=self._fd)
            except FileNotFoundError:
                pass

    def last_reserved(self, index: int) -> IPAddress | None:
        """Read the last address given of a range set; None where there is none, or no sense in it."""
        found = self._read(f"{_LAST}{index}")
        try:
            return _named(found.decode()) if found is not None else None
        except UnicodeDecodeError:
            return None

    def set_last_reserved(self, index: int, address: IPAddress) -> None:
        """Write the last address given of a range set.

        Over what is there, and cut afterwards: a file that is emptied first makes ext4 write to the disk at close
        (auto_da_alloc, Documentation/admin-guide/ext4.rst), which takes longer than all the rest.
        """
        name = f"{_LAST}{index}"
        with _translated(f"{self.path}/{name}"):
            fd = os.open(name, _WRITE, 0o600, dir_fd=self._fd)
            try:
                length = _write(fd, str(address).encode())
                if os.fstat(fd).st_size > length:
                    os.ftruncate(fd, length)
            finally:
                os.close(fd)

    def _read(self, name: str) -> bytes | None:
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
        except OSError:
            return None
        try:
            return os.read(fd, MOST_BYTES)
        except OSError:  # a directory
            return None
        finally:
            os.close(fd)


def _named(name: str) -> IPAddress | None:
    """Read a file's name as an address in the one spelling that is ever written."""
    try:
        if ":" not in name:
            packed = inet_pton(AF_INET, name)  # a third of the time that ipaddress takes
            return IPv4Address(packed) if inet_ntop(AF_INET, packed) == name else None
        address = IPv6Address(name)
    except (OSError, ValueError):
        return None
    return address if str(address) == name and address.scope_id is None else None


def _make(path: str) -> None:
    """Make a directory and what is missing above it."""
    for end in (*(at for at, letter in enumerate(path) if letter == "/" and at > 0), len(path)):
        try:
            os.mkdir(path[:end], 0o755)
        except FileExistsError:
            pass


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(fd: int, data: bytes) -> int:
    if os.write(fd, data) != len(data):  # a full disk takes a part
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return len(data)


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _meaning(exc, path) from exc
    except ValueError as exc:  # NUL in a path
        raise InvalidArgument(f"{path!r} cannot be a path: {exc}", where="$.ipam.dataDir") from exc


def _meaning(exc: OSError, path: str) -> DovetailError:
    if exc.errno in _DENIED:
        return PermissionDenied(f"{path} cannot be read or written", hint="run as the owner, or as root")
    if exc.errno in _NOT_OURS:
        return StoreError(
            f"{path} is a link or of another kind than host-local writes",
            hint="move it away, or give another dataDir",
        )
    if exc.errno in _NO_SPACE:
        return StoreError(
            f"there is no space left to write {path}", hint="free some space on its file system"
        )
    if exc.errno == errno.ENOENT:
        return Busy(f"{path} was removed by another program in this moment", hint="try again")
    return StoreError(f"{path}: {exc.strerror or exc}", hint="see its file system and the kernel's log")
