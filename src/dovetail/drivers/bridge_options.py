"""The options of a bridge network: `-o KEY=VALUE`, Docker's names for them, and their values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import msgspec

from dovetail.errors import InvalidArgument
from dovetail.model.names import check_ifname

__all__ = ["KNOWN", "BridgeOptions", "read_options"]

KNOWN = {
    "mtu": "largest packet on the bridge and its endpoints, in bytes",
    "icc": "whether endpoints reach each other (true)",
    "hairpin": "whether an endpoint reaches itself by its published port, under br_netfilter too (true)",
    "masquerade": "whether traffic that leaves the network takes the host's address (true)",
    "bridge": "name of the Linux bridge; one that exists is adopted and never deleted",
    "protected": "whether others reach only published ports (as masquerade)",
}

_SYNONYMS = {
    "com.docker.network.driver.mtu": "mtu",
    "com.docker.network.bridge.name": "bridge",
    "com.docker.network.bridge.enable_icc": "icc",
    "com.docker.network.bridge.enable_ip_masquerade": "masquerade",
}
_DOCKER = "com.docker.network."

# strconv.ParseBool of Go: what Docker itself accepts for these options
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})

_MTU_MIN = 68  # ETH_MIN_MTU, include/uapi/linux/if_ether.h
_MTU_MAX = 65535  # ETH_MAX_MTU, ibid.
_MTU_MIN_V6 = 1280  # IPV6_MIN_MTU, RFC 8200 §5


class BridgeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options with their defaults filled in; mtu 0 and bridge empty leave the choice to the driver.

    hairpin: with ``net.bridge.bridge-nf-call-iptables`` (the default where br_netfilter is there) a
    frame to a published port is translated inside the bridge, which must send it back out of the port
    it came in by where an endpoint asks itself (br_nf_pre_routing_finish, net/bridge/br_netfilter_hooks.c).
    icc false: the same translation then stays within isolated ports, so neighbours reach each other's
    published ports only where that sysctl is 0; nobody reaches more than was meant.
    """

    mtu: int = 0
    icc: bool = True
    hairpin: bool = True
    masquerade: bool = True
    bridge: str = ""
    protected: bool = True


def read_options(options: Mapping[str, str], *, ipv6: bool = False) -> BridgeOptions:
    """Read `options`; our own name of an option wins over Docker's.

    Unknown keys under ``com.docker.network.`` are Docker's own business and are ignored; any other
    unknown key, and a value that cannot be, raises InvalidArgument at ``$.options.KEY``.
    """
    found: dict[str, tuple[str, str]] = {}
    for key, value in options.items():
        if key in KNOWN:
            found[key] = (key, value)
        elif key in _SYNONYMS:
            found.setdefault(_SYNONYMS[key], (key, value))
        elif not key.startswith(_DOCKER):
            raise InvalidArgument(
                f"{key!r} is not an option of a bridge network", where=f"$.options.{key}", hint=_hint(key)
            )
    for key in KNOWN.keys() & options.keys():
        found[key] = (key, options[key])
    masquerade = _boolean(found, "masquerade", default=True)
    bridge = found.get("bridge", ("", ""))
    return BridgeOptions(
        mtu=_mtu(*found["mtu"], ipv6=ipv6) if "mtu" in found else 0,
        icc=_boolean(found, "icc", default=True),
        hairpin=_boolean(found, "hairpin", default=True),
        masquerade=masquerade,
        bridge=check_ifname(bridge[1], where=f"$.options.{bridge[0]}") if bridge[1] else "",
        protected=_boolean(found, "protected", default=masquerade),
    )


def _hint(key: str) -> str:
    known = ", ".join(KNOWN)
    near = difflib.get_close_matches(key.lower(), KNOWN, n=1)
    return f"did you mean {near[0]!r}? Known are {known}" if near else f"known are {known}"


def _boolean(found: Mapping[str, tuple[str, str]], name: str, *, default: bool) -> bool:
    if name not in found:
        return default
    key, value = found[name]
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise InvalidArgument(f"{value!r} is not a boolean", where=f"$.options.{key}", hint="write true or false")


def _mtu(key: str, value: str, *, ipv6: bool) -> int:
    where = f"$.options.{key}"
    if not (value.isascii() and value.isdigit()):
        raise InvalidArgument(f"{value!r} is not a number of bytes", where=where, hint="write it as 1400")
    mtu = int(value)
    if mtu == 0:
        return 0  # Docker's way to say: the default
    low = _MTU_MIN_V6 if ipv6 else _MTU_MIN
    if not low <= mtu <= _MTU_MAX:
        why = " on a network with IPv6" if ipv6 else ""
        raise InvalidArgument(
            f"{mtu} is not an MTU that works{why}", where=where, hint=f"{low} to {_MTU_MAX}"
        )
    return mtu
