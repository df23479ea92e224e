"""The exceptions dovetail raises, by meaning.

::

    DovetailError
    ├── InvalidArgument        the caller said something that cannot be (400)
    │   └── NamespaceGone      nothing is at the path of a namespace any more
    ├── Unsupported            this kernel, engine or technique cannot do it
    ├── NotFound               no such network, endpoint, sandbox, link, …
    ├── Conflict               it contradicts what is there
    │   ├── AlreadyExists      a thing of that name or id is there
    │   ├── InUse              it cannot go: others hold it
    │   ├── AddressInUse       the address belongs to somebody
    │   ├── PoolOverlap        the pool overlaps a route or another pool
    │   └── PortInUse          the host's port is published or bound
    ├── PoolExhausted          no free address, or no free pool
    ├── PermissionDenied       the process lacks a privilege
    ├── Busy                   a lock or a peer did not answer in time: try again
    ├── StoreError             the store cannot be read or written (full disk, corrupt file)
    └── KernelError            the kernel refused; carries errno and its own words

No HTTP status and no CNI code stands here: each face maps the classes it knows
(`cnm/server.py`, `cni/errors.py`, `api/problems.py`). Every error prints as one sentence;
`hint` is the next step for a person and `where` the place in the input (``$.ipam.subnet``).
"""

from __future__ import annotations

__all__ = [
    "AddressInUse",
    "AlreadyExists",
    "Busy",
    "Conflict",
    "DovetailError",
    "InUse",
    "InvalidArgument",
    "KernelError",
    "NamespaceGone",
    "NotFound",
    "PermissionDenied",
    "PoolExhausted",
    "PoolOverlap",
    "PortInUse",
    "StoreError",
    "Unsupported",
    "one_sentence",
]


class DovetailError(Exception):
    """Base of all: a message, and optionally where it was and what to do next."""

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} ({self.hint})" if self.hint else text


class InvalidArgument(DovetailError):
    """A value is malformed, out of range or contradicts another one of the same request."""


class NamespaceGone(InvalidArgument):
    """The namespace at a path has ended: nothing is there, in a directory that is.

    Where the directory is missing too, or something else is at the path, the namespace may live: this process may
    see another file system than its owner.
    """


class Unsupported(DovetailError):
    """This kernel, engine version or network technique cannot do what was asked."""


class NotFound(DovetailError):
    """Nothing of that kind has that name, id or id prefix."""

    def __init__(self, kind: str, name: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(f"no such {kind}: {name!r}", where=where, hint=hint)
        self.kind = kind
        self.name = name


class Conflict(DovetailError):
    """The request contradicts the present state."""


class AlreadyExists(Conflict):
    """Something of that kind and name is there already."""

    def __init__(self, kind: str, name: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(f"{kind} {name!r} already exists", where=where, hint=hint)
        self.kind = kind
        self.name = name


class InUse(Conflict):
    """It cannot be removed while `by` hold it; `by` are names a person recognises."""

    def __init__(self, kind: str, name: str, by: list[str], *, hint: str = "") -> None:
        super().__init__(f"{kind} {name!r} is in use by {', '.join(by)}", hint=hint)
        self.kind = kind
        self.name = name
        self.by = by


class AddressInUse(Conflict):
    """An address that was asked for belongs to another owner; a substitute is never given."""


class PoolOverlap(Conflict):
    """A pool that was asked for overlaps a host route or another pool; the message names it."""


class PortInUse(Conflict):
    """A host port is published by an endpoint or bound by a local process."""


class PoolExhausted(DovetailError):
    """No address (or no pool) is left to give."""


class PermissionDenied(DovetailError):
    """The process lacks a privilege that the operation needs."""


class Busy(DovetailError):
    """A lock, the database or a peer did not answer within its deadline; trying again may succeed."""


class StoreError(DovetailError):
    """The store could not be read or written: a full disk, a corrupt or newer file."""


class KernelError(DovetailError):
    """The kernel refused an operation.

    `errno` is the (positive) error number, `extack` the kernel's own explanation where it gave
    one (NLMSGERR_ATTR_MSG, include/uapi/linux/netlink.h).
    """

    def __init__(self, message: str, errno: int, *, extack: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno = errno
        self.extack = extack


def one_sentence(error: BaseException) -> str:
    """Give `error` as a single line; an exception group becomes its members joined by ``; ``."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(one_sentence(member) for member in error.exceptions)
    return " ".join(str(error).split()) or type(error).__name__
