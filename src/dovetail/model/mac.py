"""MAC addresses as a type of their own."""

from __future__ import annotations

import functools
import hashlib
import re

from dovetail.errors import InvalidArgument

__all__ = ["Mac"]

_FORM = re.compile(r"(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}")


class Mac(str):
    """A unicast 48-bit MAC address in the form ``02:42:0a:00:00:02`` (lower case, colons).

    Raises:
        InvalidArgument: not six octets, multicast, or all zero.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Mac:
        lowered = text.strip().lower()
        if not _FORM.fullmatch(lowered):
            raise InvalidArgument(f"{text!r} is not a MAC address", hint="write it as 02:00:5e:10:00:01")
        octets = lowered.replace("-", ":")
        if int(octets[:2], 16) & 1:
            raise InvalidArgument(f"{text!r} is a multicast MAC address, an interface needs a unicast one")
        if octets == "00:00:00:00:00:00":
            raise InvalidArgument("the all-zero MAC address cannot be given to an interface")
        return super().__new__(cls, octets)

    @classmethod
    def from_bytes(cls, octets: bytes) -> Mac:
        """Read six octets as they stand in IFLA_ADDRESS."""
        return cls(octets.hex(":"))

    @classmethod
    def derived(cls, seed: str, *, first: int = 0) -> Mac:
        """Make a stable locally administered MAC from `seed`: the same seed, the same address. `first` fixes its first octet."""
        return _derived(seed, first)

    def packed(self) -> bytes:
        """Give the six octets."""
        return bytes.fromhex(self.replace(":", ""))


@functools.lru_cache(maxsize=1024)
def _derived(seed: str, first: int) -> Mac:
    octets = bytearray(hashlib.sha256(seed.encode()).digest()[:6])
    octets[0] = first or (octets[0] & 0xFC) | 0x02  # unicast, locally administered (IEEE 802-2014 §8.2)
    return str.__new__(Mac, octets.hex(":"))
