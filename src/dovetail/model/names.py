"""Names and identifiers: what is allowed, and how the names of kernel objects are derived.

A kernel object is named after its owner. Linux allows 15 characters (IFNAMSIZ - 1,
include/uapi/linux/if.h), so the name is a prefix and 12 hexadecimal digits of the owner's id;
the owner in full goes into the link's alias (IFLA_IFALIAS), where a garbage collector finds it.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from dovetail.errors import InvalidArgument

__all__ = [
    "ALIAS_PREFIX",
    "bridge_link",
    "check_container_id",
    "check_ifname",
    "check_name",
    "check_port_name",
    "derive_id",
    "handover_link",
    "host_link",
    "link_alias",
    "link_id",
    "named_port",
    "new_id",
    "parse_alias",
    "port_link",
    "short",
]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,127}")
_CONTAINER_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_NOT_IN_IFNAME = re.compile(r"[\s/:%\x00]")
_IFNAME_MAX = 15  # IFNAMSIZ - 1, include/uapi/linux/if.h
_DIGITS_MIN, _DIGITS_MAX = 6, 11
_PORT_HINT = "give a name as `vethweb`, or as `web%`, where the % becomes digits of the attachment"
ALIAS_PREFIX = "dovetail:"


def check_name(kind: str, name: str, *, where: str = "") -> str:
    """Give `name` back if it may name a network or a sandbox, else raise InvalidArgument.

    The rule is CNI's for network names (SPEC 1.1.0 "Parameters"): letters, digits, ``_.-``,
    starting with a letter or a digit; at most 128 characters.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name!r} is not a valid {kind} name",
            where=where,
            hint="use letters, digits, '_', '.' and '-', starting with a letter or digit, at most 128",
        )
    return name


def check_container_id(container_id: str, *, where: str = "CNI_CONTAINERID") -> str:
    """Give a CNI container id back if it is well formed (SPEC 1.1.0 "Parameters")."""
    if not _CONTAINER_ID.fullmatch(container_id):
        raise InvalidArgument(f"{container_id!r} is not a valid container id", where=where)
    return container_id


def check_ifname(ifname: str, *, where: str = "") -> str:
    """Give `ifname` back if Linux accepts it (dev_valid_name, net/core/dev.c) and it can be shown.

    Linux accepts control characters too, and `ip -j` then writes what is no JSON.
    """
    if (
        not ifname
        or not ifname.isprintable()
        or len(ifname.encode()) > _IFNAME_MAX
        or ifname in {".", ".."}
        or _NOT_IN_IFNAME.search(ifname)
    ):
        raise InvalidArgument(
            f"{ifname!r} is not a valid interface name",
            where=where,
            hint="1 to 15 printable characters without '/', ':', '%' or white space",
        )
    return ifname


def new_id() -> str:
    """Make a random id of 64 hexadecimal digits, the form Docker uses."""
    return secrets.token_hex(32)


def derive_id(*parts: str) -> str:
    """Make the id that `parts` always give, so that DEL can find what ADD made without state."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def link_id(link: str) -> str:
    """Derive the id of an interface of the host that attachments share, by which it is locked."""
    return derive_id("link", link)


def short(identifier: str) -> str:
    """Cut an id to the 12 digits that people read."""
    return identifier[:12]


def bridge_link(network_id: str) -> str:
    """Name the bridge of a network: ``dv-`` and 12 digits."""
    return f"dv-{network_id[:12]}"


def host_link(endpoint_id: str) -> str:
    """Name the host's end of an endpoint's veth pair: ``dvh`` and 12 digits."""
    return f"dvh{endpoint_id[:12]}"


def handover_link(endpoint_id: str) -> str:
    """Name the container's end while it waits in the host namespace for Docker to move it."""
    return f"dvc{endpoint_id[:12]}"


def port_link(attachment: str) -> str:
    """Name the host's end of the veth pair of a CNI attachment: ``veth``, as the reference plugins do, and 11 digits."""
    return named_port("veth%", attachment)


def check_port_name(template: str, *, where: str = "") -> str:
    """Give `template` back if `named_port` can make an interface's name of it, else raise InvalidArgument."""
    if template.count("%") > 1:
        raise InvalidArgument(f"{template!r} has more than one '%'", where=where, hint=_PORT_HINT)
    if "%" in template and len(template.encode()) > _IFNAME_MAX - _DIGITS_MIN + 1:
        raise InvalidArgument(
            f"{template!r} leaves no room for the {_DIGITS_MIN} digits that tell attachments apart",
            where=where,
            hint=_PORT_HINT,
        )
    check_ifname(template.replace("%", "0"), where=where)
    return template


def named_port(template: str, attachment: str) -> str:
    """Name the host's end as a configuration says: literally, or with ``%`` as digits of the attachment's id.

    They are as many as the name has room for, 6 at least and 11 at most. A literal name is one attachment's at a time.
    """
    room = _IFNAME_MAX - len(template.encode()) + 1
    return template.replace("%", attachment[: min(room, _DIGITS_MAX)])


def link_alias(store_id: str, kind: str, identifier: str) -> str:
    """Write the alias that says whose link this is: ``dovetail:STORE/KIND/ID``.

    IFALIASZ allows 255 characters. `store_id` keeps two engines on one host from collecting each other's links.
    """
    return f"{ALIAS_PREFIX}{store_id}/{kind}/{identifier}"


def parse_alias(alias: str) -> tuple[str, str, str] | None:
    """Read `link_alias` back as (store id, kind, id), or None where the link is not ours."""
    if not alias.startswith(ALIAS_PREFIX):
        return None
    parts = alias[len(ALIAS_PREFIX) :].split("/")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None
