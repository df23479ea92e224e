"""CNI's error codes, and which of our errors is which.

====  ==========================================  =============================================
code  CNI SPEC 1.1.0, "Error"                      ours
====  ==========================================  =============================================
1     incompatible version                         raised as CniError
2     unsupported field                            Unsupported
3     container unknown                            NotFound of an endpoint (CHECK)
4     bad environment                              raised as CniError
5     I/O failure                                  KernelError, StoreError, PermissionDenied
6     cannot decode                                raised as CniError
7     invalid network configuration                InvalidArgument, NotFound, Conflict
11    try again later                              Busy
50    plugin not available                         STATUS
101   the address is taken                         AddressInUse
102   no address is left                           PoolExhausted
103   the host's port is taken                     PortInUse
104   the attachment or interface exists           AlreadyExists
105   the kernel differs from the result           CHECK
====  ==========================================  =============================================

Never 999, which the reference plugins give for nearly everything.
"""

from __future__ import annotations

from dovetail.errors import (
    AddressInUse,
    AlreadyExists,
    Busy,
    DovetailError,
    KernelError,
    NotFound,
    PermissionDenied,
    PoolExhausted,
    PortInUse,
    StoreError,
    Unsupported,
    one_sentence,
)

__all__ = ["DIFFERS", "NOT_AVAILABLE", "CniError", "cni_error"]

INCOMPATIBLE_VERSION, UNSUPPORTED_FIELD, UNKNOWN_CONTAINER, BAD_ENVIRONMENT = 1, 2, 3, 4
IO_FAILURE, CANNOT_DECODE, INVALID_CONFIG, TRY_AGAIN, NOT_AVAILABLE = 5, 6, 7, 11, 50
DIFFERS = 105
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (AddressInUse, 101),
    (PoolExhausted, 102),
    (PortInUse, 103),
    (AlreadyExists, 104),
    (Busy, TRY_AGAIN),
    (Unsupported, UNSUPPORTED_FIELD),
    (KernelError, IO_FAILURE),
    (StoreError, IO_FAILURE),
    (PermissionDenied, IO_FAILURE),
)


class CniError(Exception):
    """An error with its code, as it goes to the runtime."""

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details


def cni_error(error: BaseException) -> CniError:
    """Give `error` its code."""
    if isinstance(error, CniError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return CniError(cni_error(error.exceptions[0]).code, one_sentence(error))
    hint = error.hint if isinstance(error, DovetailError) else ""
    text = one_sentence(error).removesuffix(f" ({hint})") if hint else one_sentence(error)
    if isinstance(error, NotFound) and error.kind == "endpoint":
        return CniError(UNKNOWN_CONTAINER, text, hint)
    for kind, code in _CODES:
        if isinstance(error, kind):
            return CniError(code, text, hint)
    return CniError(INVALID_CONFIG, text, hint)
