"""What the shim and the daemon say to each other over ``cni.sock``.

The request, sent in one go with the open descriptor of CNI_NETNS as SCM_RIGHTS where there is one::

    "DVT1"  u32 length of the environment  u32 length of the configuration
    u64 device  u64 inode                  of the caller's /proc/self/ns/net
    environment: NAME=VALUE, each ended by NUL; PLUGIN=<type> first
    configuration: standard input as it came

and the answer::

    u32 status  u32 length of stdout  u32 length of stderr  stdout  stderr

Numbers are little-endian. Status `FALLBACK` says: run the engine in your own process, for you are in
another network namespace than the daemon.
"""

from __future__ import annotations

import struct

__all__ = ["ANSWER", "FALLBACK", "MAGIC", "REQUEST", "REQUEST_BYTES", "pack_answer"]

MAGIC = b"DVT1"
REQUEST = struct.Struct("<4sIIQQ")
ANSWER = struct.Struct("<III")
FALLBACK = 0xFFFFFFFF
REQUEST_BYTES = 17 << 20


def pack_answer(status: int, stdout: bytes = b"", stderr: bytes = b"") -> bytes:
    """Encode an answer."""
    return ANSWER.pack(status, len(stdout), len(stderr)) + stdout + stderr
