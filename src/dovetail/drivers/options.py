"""Reading the options of a network, `-o KEY=VALUE`: our names, Docker's for the same, and their values.

A driver describes its options in a table, `Option` by name, from which the reference is written too.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import NamedTuple, TypeVar

from dovetail.errors import InvalidArgument

__all__ = ["DOCKER", "Given", "Option"]

C = TypeVar("C", bound=str)

DOCKER = "com.docker.network."
"""What Docker's own options begin with; those that a driver does not know are Docker's business."""

# strconv.ParseBool of Go: what Docker itself accepts for its options
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})

_MTU_MIN = 68  # ETH_MIN_MTU, include/uapi/linux/if_ether.h
_MTU_MAX = 65535  # ETH_MAX_MTU, ibid.
_MTU_MIN_V6 = 1280  # IPV6_MIN_MTU, RFC 8200 §5


class Option(NamedTuple):
    """One option: what it does, in a line with its default, and the keys that other software has for it."""

    meaning: str
    synonyms: tuple[str, ...] = ()


class Given:
    """The options that were given for one network; our own name of an option wins over a synonym.

    Every reader raises InvalidArgument at ``$.options.KEY``, KEY as the user wrote it.
    """

    def __init__(self, driver: str, options: Mapping[str, str], known: Mapping[str, Option]) -> None:
        """Sort `options` by our names; raises InvalidArgument for a key that nobody knows."""
        names = {synonym: name for name, option in known.items() for synonym in option.synonyms}
        self._given: dict[str, tuple[str, str]] = {}
        for key, value in options.items():
            if key in known:
                self._given[key] = (key, value)
            elif key in names:
                if names[key] not in options:
                    self._given.setdefault(names[key], (key, value))
            elif not key.startswith(DOCKER):
                raise InvalidArgument(
                    f"{key!r} is not an option of a {driver} network",
                    where=f"$.options.{key}",
                    hint=_hint(key, known),
                )

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def where(self, name: str) -> str:
        """Say where the option was given, for an error."""
        return f"$.options.{self._given[name][0] if name in self._given else name}"

    def text(self, name: str, default: str = "") -> str:
        """Read it as it is."""
        return self._given[name][1] if name in self._given else default

    def boolean(self, name: str, *, default: bool) -> bool:
        """Read what Go's ParseBool reads."""
        if name not in self._given:
            return default
        value = self.text(name)
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise InvalidArgument(
            f"{value!r} is not a boolean", where=self.where(name), hint="write true or false"
        )

    def choice(self, name: str, choices: Collection[C], default: C) -> C:
        """Read one of `choices`; empty is the default."""
        value = self.text(name) or default
        for choice in choices:
            if choice == value:
                return choice
        raise InvalidArgument(
            f"{value!r} is none of {', '.join(choices)}",
            where=self.where(name),
            hint=f"the default is {default}",
        )

    def number(self, name: str, low: int, high: int, default: int = 0) -> int:
        """Read a decimal number from `low` to `high`."""
        if name not in self._given:
            return default
        value = self.text(name)
        if value.isascii() and value.isdigit() and len(value) < 10 and low <= int(value) <= high:
            return int(value)
        raise InvalidArgument(
            f"{value!r} is not a number from {low} to {high}",
            where=self.where(name),
            hint="leave it out for the default",
        )

    def mtu(self, *, ipv6: bool) -> int:
        """Read ``mtu`` in bytes; 0 is the default, which is Docker's way to say so, and ``auto``, see `mtu_is_auto`."""
        if "mtu" not in self._given or self.mtu_is_auto():
            return 0
        value, where = self.text("mtu"), self.where("mtu")
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            raise InvalidArgument(
                f"{value!r} is not a number of bytes", where=where, hint="write it as 1400, or auto"
            )
        mtu = int(value)
        if mtu == 0:
            return 0
        low = _MTU_MIN_V6 if ipv6 else _MTU_MIN
        if not low <= mtu <= _MTU_MAX:
            why = " on a network with IPv6" if ipv6 else ""
            raise InvalidArgument(
                f"{mtu} is not an MTU that works{why}", where=where, hint=f"{low} to {_MTU_MAX}"
            )
        return mtu

    def mtu_is_auto(self) -> bool:
        """Say whether the MTU is to be that of the way out."""
        return self.text("mtu") == "auto"


def _hint(key: str, known: Mapping[str, Option]) -> str:
    if not known:
        return "it has none"
    names = ", ".join(known)
    near = difflib.get_close_matches(key.lower(), known, n=1)
    return f"did you mean {near[0]!r}? Known are {names}" if near else f"known are {names}"
