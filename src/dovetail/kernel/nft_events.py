"""News of the firewall: that tables, chains or rules of nftables changed, whoever changed them."""

from __future__ import annotations

import socket
import struct

__all__ = ["FirewallEvents"]

_NETLINK_NETFILTER = 12  # include/uapi/linux/netlink.h
_NFNLGRP_NFTABLES = 7  # enum nfnetlink_groups, include/uapi/linux/netfilter/nfnetlink.h
_NFNL_SUBSYS_NFTABLES = 10  # ibid.
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr, include/uapi/linux/netlink.h
_BUFFER_BYTES = 1 << 18

# enum nf_tables_msg_types, include/uapi/linux/netfilter/nf_tables.h
_NEWSETELEM, _GETSETELEM, _DELSETELEM, _NEWGEN = 12, 13, 14, 15
_PASSED_OVER = frozenset({_NEWSETELEM, _GETSETELEM, _DELSETELEM, _NEWGEN})


class FirewallEvents:
    """A socket in the calling thread's namespace, for ``select``; needs no privilege to listen."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            _NETLINK_NETFILTER,
        )
        self._socket.bind((0, 1 << (_NFNLGRP_NFTABLES - 1)))

    def fileno(self) -> int:
        """Give the descriptor that becomes readable."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def drain(self) -> bool:
        """Read what has arrived; True if more changed than elements of sets, or if news was lost."""
        changed = False
        while True:
            try:
                data = self._socket.recv(_BUFFER_BYTES)
            except BlockingIOError:
                return changed
            except OSError:  # ENOBUFS: more happened than the buffer holds
                changed = True
                continue
            changed = changed or _is_structural(data)


def _is_structural(data: bytes) -> bool:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return True
        if kind >> 8 == _NFNL_SUBSYS_NFTABLES and kind & 0xFF not in _PASSED_OVER:
            return True
        offset += (length + 3) & ~3  # NLMSG_ALIGN
    return False
