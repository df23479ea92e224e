"""Options of ours that a user gives Docker with ``-o`` and ``--ipam-opt``."""

from __future__ import annotations

import string
from collections.abc import Mapping

import msgspec

from dovetail.drivers.options import Given, Option
from dovetail.errors import InvalidArgument
from dovetail.model.names import check_ifname

__all__ = [
    "KNOWN",
    "KNOWN_ENDPOINT",
    "KNOWN_IPAM",
    "NetworkChoice",
    "ifname_prefix",
    "read_endpoint_options",
    "read_ipam_options",
    "read_options",
]

_OURS = "dovetail."
_DOCKER = "com.docker.network."
_IFNAME = "com.docker.network.endpoint.ifname"  # netlabel.Ifname, moby daemon/libnetwork/netlabel/labels.go

KNOWN = {
    "dovetail.network": "an existing dovetail network (name or id) to use, instead of making one",
    "dovetail.name": "the name of the network that is made (docker- and the beginning of Docker's id)",
    "dovetail.driver": "the driver of the network that is made, of the plugin dovetail (bridge)",
}
KNOWN_IPAM = {
    "dovetail.network": "the existing dovetail network whose pool to use",
    "dovetail.sticky": "as option sticky of a network, for a pool that another driver uses",
}
KNOWN_ENDPOINT = {
    _IFNAME: "what the interface's name begins with: of wan0 it is wan, and Docker numbers it (the network's)"
}
_MAC = "com.docker.network.endpoint.macaddress"  # in base64; CreateEndpoint has it as text too


class NetworkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What ``-o`` says: an existing `network`, or name, driver and driver options of a new one."""

    network: str = ""
    name: str = ""
    driver: str = "bridge"
    options: dict[str, str] = {}


def read_options(generic: Mapping[str, str], technique: str = "") -> NetworkChoice:
    """Read the ``-o`` options of a network; `technique` is the driver that the plugin stands for, if for one.

    Keys of Docker's own are left to the driver, which ignores those it does not know. Raises
    InvalidArgument for an unknown key of ours, and where a network is to be used *and* described.
    """
    _refuse_unknown(generic, KNOWN, "-o")
    rest = {key: value for key, value in generic.items() if not key.startswith(_OURS)}
    network = generic.get("dovetail.network", "")
    if "dovetail.network" not in generic:
        return NetworkChoice(
            name=generic.get("dovetail.name", ""),
            driver=_driver(generic.get("dovetail.driver", ""), technique),
            options=rest,
        )
    if not network:
        raise InvalidArgument("option 'dovetail.network' is empty", hint="give the network's name")
    moot = [key for key in generic if key != "dovetail.network" and not key.startswith(_DOCKER)]
    if moot:
        raise InvalidArgument(
            f"option {moot[0]!r} has no effect on network {network!r}, which exists already",
            where=f"-o {moot[0]}",
            hint="leave it out, or leave -o dovetail.network out to make a new network",
        )
    return NetworkChoice(network=network)


def _driver(asked: str, technique: str) -> str:
    if technique and asked not in {"", technique}:
        raise InvalidArgument(
            f"networks of the plugin dovetail-{technique} are {technique} networks, not {asked!r}",
            where="-o dovetail.driver",
            hint=f"leave it out, or give -d dovetail -o dovetail.driver={asked}",
        )
    return technique or asked or "bridge"


def read_ipam_options(options: Mapping[str, str]) -> tuple[str, bool]:
    """Read ``--ipam-opt``: the name of the network whose pool is asked for, or nothing; and whether it is sticky.

    Raises InvalidArgument for a key that is neither ours nor Docker's, and for a pool of a network's that is described.
    """
    _refuse_unknown(options, KNOWN_IPAM, "--ipam-opt", strict=True)
    name = options.get("dovetail.network", "")
    given = Given("", {"sticky": options.get("dovetail.sticky", "false")}, {"sticky": Option("")})
    sticky = given.boolean("sticky", default=False)
    if name and sticky:
        raise InvalidArgument(
            f"network {name!r} exists, and says itself whether its addresses are kept",
            where="--ipam-opt dovetail.sticky",
            hint="leave it out",
        )
    return name, sticky


def read_endpoint_options(options: Mapping[str, object]) -> dict[str, str]:
    """Give the options that the user gave the endpoint (``--driver-opt``), without those that Docker adds.

    Docker's own for endpoints are among them: its name of the interface, its sysctls, which it sets itself. They
    come here only, and not with Join. Raises InvalidArgument for a key of ours: there is none for endpoints.
    """
    plain = {key: value for key, value in options.items() if isinstance(value, str) and key != _MAC}
    _refuse_unknown(plain, {}, "--driver-opt")
    return plain


def ifname_prefix(options: Mapping[str, str]) -> str:
    """Give what the endpoint's interface is to begin with, as ``…endpoint.ifname`` asks; empty where it does not.

    dockerd numbers the interface of a plugin itself, whatever it was asked (cnm.md §1.4). Of ``wan0`` it is
    told ``wan``, which becomes ``wan0`` in a container that has no other. Raises InvalidArgument.
    """
    asked = options.get(_IFNAME, "")
    prefix = asked.rstrip(string.digits)
    return check_ifname(f"{prefix}0", where=f"--driver-opt {_IFNAME}")[:-1] if prefix else ""


def _refuse_unknown(
    options: Mapping[str, str], known: Mapping[str, str], flag: str, *, strict: bool = False
) -> None:
    for key in options:
        ours = key.startswith(_OURS) or (strict and not key.startswith(_DOCKER))
        if ours and key not in known:
            raise InvalidArgument(
                f"unknown option {key!r}",
                where=f"{flag} {key}",
                hint=f"known are {', '.join(known)}" if known else "there is none of that name",
            )
