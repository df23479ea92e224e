"""The link of the host that a network's endpoints sit on: there already, or a VLAN or dummy that is made for it.

A link that is made bears the alias of one of the networks on it, so it is found who has it, and nobody deletes
what was there before.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from dovetail.errors import Conflict, InvalidArgument, NotFound
from dovetail.kernel import link_settings
from dovetail.kernel.protocol import Dummy, Ipvlan, Kernel, Link, LinkSettings, LinkSpec, Macvlan, Vlan
from dovetail.model.names import bridge_link, link_alias, parse_alias, short
from dovetail.model.network import Network

__all__ = [
    "WHERE",
    "Parent",
    "check_carried",
    "make_parent",
    "plan_parent",
    "refuse_foreign",
    "release_parent",
    "try_parent",
]

WHERE = "$.options.parent"
_VLAN = re.compile(r"(.+)\.([0-9]{1,9})")
_VLAN_LAST = 4094  # 4095 is reserved (IEEE 802.1Q §9.6)
_TAKERS = frozenset({"macvlan", "macvtap", "ipvlan", "ipvtap"})
_HINT = "give a network card of the host, as `ip link` lists them, or NAME.ID for a VLAN of one"


class Parent(NamedTuple):
    """A parent as it was found: its MTU, and whether it is dovetail's to make and to remove."""

    mtu: int
    made: bool


def plan_parent(kernel: Kernel, name: str, store_id: str, *, kind: str) -> Parent:
    """Look at the parent `name` that a user gave to a network whose links are of `kind`; changes nothing.

    Raises InvalidArgument or NotFound where it cannot be one, Conflict where something else has it.
    """
    if name == "lo":
        raise InvalidArgument(f"'lo' leads nowhere: no {kind} can be on it", where=WHERE, hint=_HINT)
    there = kernel.link(name)
    if there is None:
        base = _plan_vlan(kernel, name)  # it may be a bridge's port: frames with a tag are taken before that
        _check_ethernet(base, kind)
        return Parent(base.mtu, made=True)
    if there.name != name:
        raise InvalidArgument(
            f"{name!r} is another name of {there.name}", where=WHERE, hint=f"give {there.name}"
        )
    _check_ethernet(there, kind)
    _check_free(kernel, there, kind)
    return Parent(there.mtu, made=there.kind == "vlan" and _is_ours(there, store_id))


def _plan_vlan(kernel: Kernel, name: str) -> Link:
    """Check that the VLAN `name`, which is missing, can be made, and give the link that it is to be on."""
    split = _split(name)
    base = kernel.link(split[0]) if split is not None else None
    if split is None or base is None:
        raise NotFound("interface", name, where=WHERE, hint=_HINT)
    number = split[1]
    if not 1 <= number <= _VLAN_LAST:
        raise InvalidArgument(
            f"{number} is no VLAN of {base.name}",
            where=WHERE,
            hint=f"VLANs are numbered from 1 to {_VLAN_LAST}",
        )
    for link in kernel.links():
        if link.settings == Vlan(number) and link.kind == "vlan" and _sits_on(link, base):
            raise Conflict(
                f"VLAN {number} of {base.name} is there, by the name of {link.name}",
                where=WHERE,
                hint=f"give parent={link.name}",
            )
    return base


def _check_ethernet(link: Link, kind: str) -> None:
    if not link.mac:
        raise InvalidArgument(
            f"{link.name!r} is no Ethernet interface, and {kind} links are on such only",
            where=WHERE,
            hint=_HINT,
        )


def _check_free(kernel: Kernel, link: Link, kind: str) -> None:
    if not link.master:
        return
    master = next((other for other in kernel.links() if other.ifindex == link.master), None)
    of = f"{master.kind or 'link'} {master.name}" if master is not None else "another link"
    raise Conflict(
        f"{link.name!r} is a port of {of}, and cannot carry {kind} links",
        where=WHERE,
        hint=f"give parent={master.name}" if master is not None else "give another parent",
    )


def check_carried(kernel: Kernel, name: str, settings: Macvlan | Ipvlan, known: Collection[str]) -> None:
    """Refuse a parent that others have in another way, who are no networks of dovetail: a virtual machine's macvtap.

    known: links that belong to networks. Links in other namespaces cannot be seen; the kernel refuses those later.
    """
    kind = link_settings.kind_of(settings)
    parent = kernel.link(name)
    for link in kernel.links() if parent is not None else ():
        if parent is None or not _sits_on(link, parent) or link.kind not in _TAKERS or link.name in known:
            continue
        if settings == Macvlan("passthru") or not _agree(link, settings):
            raise Conflict(
                f"{name!r} carries the {link.kind} {link.name!r}, and cannot carry {kind} links of mode"
                f" {settings.mode} beside it",
                where=WHERE,
                hint="give another parent",
            )


def _agree(link: Link, settings: Macvlan | Ipvlan) -> bool:
    """Say whether the kernel lets both be on one parent, and leaves the link as it is."""
    if isinstance(settings, Macvlan):
        return link.kind.startswith("macv")
    return link.kind == "ipvlan" and link.settings == settings  # they have mode and flag by parent


def try_parent(
    kernel: Kernel, network: Network, settings: LinkSettings, store_id: str, undo: ExitStack
) -> None:
    """Make a link on the parent and remove it: what the kernel has against it is better heard now than at a join.

    Raises Unsupported for a kind of link that this kernel has not, Conflict where something else has the parent.
    """
    name = bridge_link(network.id)
    undo.callback(kernel.delete_links, [name])
    spec = LinkSpec(name, mtu=network.mtu, alias=link_alias(store_id, "network", network.id))
    kernel.add_link(spec, settings, parent=network.parent)
    kernel.delete_links([name])


def make_parent(kernel: Kernel, network: Network, store_id: str, undo: ExitStack) -> None:
    """Make the VLAN or dummy that `network` sits on where it is missing, up.

    Raises NotFound where it was there before and is gone, or what it would be on is; AlreadyExists.
    """
    name = network.parent
    if kernel.link(name) is not None:
        return
    spec = LinkSpec(name, alias=link_alias(store_id, "network", network.id), up=True)
    if not network.parent_made:
        raise NotFound(
            "interface", name, hint="the network's parent is gone: make it again, or delete the network"
        )
    split = _split(name)
    undo.callback(kernel.delete_links, [name])
    if split is None:
        kernel.add_link(spec._replace(mtu=network.mtu), Dummy())
    else:
        kernel.add_link(spec, Vlan(split[1]), parent=split[0])


def release_parent(kernel: Kernel, network: Network, beside: Sequence[Network]) -> None:
    """Remove a parent that dovetail made, or where others are on it too let it be one of theirs."""
    there = kernel.link(network.parent) if network.parent_made else None
    alias = parse_alias(there.alias) if there is not None else None
    if there is None or alias is None:
        return  # what has the name now is not what was made
    store_id, _, owner = alias
    if not beside:
        kernel.delete_links([network.parent])
    elif owner == network.id:
        kernel.set_link(network.parent, alias=link_alias(store_id, "network", beside[0].id))


def refuse_foreign(kernel: Kernel, name: str, network: Network) -> None:
    """Refuse to take a link of the name `name` for `network`'s own if it is another's."""
    there = kernel.link(name)
    if there is None:
        return
    alias = parse_alias(there.alias)
    if alias is None or alias[1:] != ("network", network.id):
        owner = f"belongs to {alias[1]} {short(alias[2])}" if alias is not None else "is not dovetail's"
        raise Conflict(f"link {name!r} is there and {owner}", hint=f"remove it: ip link del {name}")


def _is_ours(link: Link, store_id: str) -> bool:
    alias = parse_alias(link.alias)
    return alias is not None and alias[:2] == (store_id, "network")


def _sits_on(link: Link, parent: Link) -> bool:
    return link.parent_ifindex == parent.ifindex and not link.parent_abroad


def _split(name: str) -> tuple[str, int] | None:
    """Read ``eth0.10`` as a link and the number of a VLAN."""
    match = _VLAN.fullmatch(name)
    return (match[1], int(match[2])) if match is not None else None
