"""macvlan: each endpoint is on its parent's wire with a MAC address of its own, beside the host."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import cast, get_args

from dovetail.drivers.on_parent import OnParentDriver
from dovetail.drivers.options import Given, Option
from dovetail.drivers.parent import WHERE
from dovetail.drivers.parent_options import ON_PARENT, ParentOptions, read_parent_options
from dovetail.errors import Conflict
from dovetail.kernel.protocol import Macvlan, MacvlanMode
from dovetail.model.network import Network

__all__ = ["KNOWN", "MacvlanDriver", "read_options"]

KNOWN: Mapping[str, Option] = {
    **ON_PARENT,
    "mode": Option(
        "bridge: endpoints reach each other directly; vepa: by a switch out there that sends frames back; private:"
        " not at all; passthru: one endpoint has the whole parent, with its MAC (bridge)",
        ("macvlan_mode",),
    ),
}

_PASSTHRU = Macvlan("passthru")


class MacvlanDriver(OnParentDriver):
    """The driver ``macvlan``."""

    name = "macvlan"
    summary = "an interface on a network card's wire, beside the host, with its own MAC address"
    _dummy = "dm"

    def options(self) -> Mapping[str, Option]:
        """Name each option with what it does and Docker's names for it."""
        return KNOWN

    def _options(self, network: Network) -> ParentOptions:
        ipv6 = any(subnet.subnet.version == 6 for subnet in network.subnets)
        return _remembered(tuple(network.options.items()), ipv6)

    def _check_settings(self, mine: ParentOptions, theirs: ParentOptions, other: Network) -> None:
        if _PASSTHRU not in {mine.settings, theirs.settings}:
            return
        verb = "wants" if mine.settings == _PASSTHRU else "has"
        who = "passthru" if mine.settings == _PASSTHRU else f"network {other.name!r}, in mode passthru,"
        raise Conflict(
            f"{who} {verb} {mine.parent!r} for itself"
            + (f", and network {other.name!r} is on it" if verb == "wants" else ""),
            where=WHERE,
            hint="give another parent",
        )


def read_options(options: Mapping[str, str], *, ipv6: bool = False) -> ParentOptions:
    """Read `options`; raises InvalidArgument at ``$.options.KEY``, see `Given`."""
    given = Given("macvlan", options, KNOWN)
    mode = given.choice("mode", get_args(MacvlanMode), "bridge")
    return read_parent_options(given, Macvlan(cast("MacvlanMode", mode)), ipv6=ipv6)


@functools.lru_cache(maxsize=256)
def _remembered(options: tuple[tuple[str, str], ...], ipv6: bool) -> ParentOptions:
    return read_options(dict(options), ipv6=ipv6)
