"""What links of CNI attachments have in common, of whatever kind: whose they are, with which MAC, and how they go.

A link is found by its alias: its name may be another program's by now, or may have been changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import ExitStack

from dovetail.errors import InvalidArgument, NotFound
from dovetail.kernel.protocol import Kernel, Link, LinkSpec, Netns
from dovetail.model.addresses import IPInterface
from dovetail.model.endpoint import Owner
from dovetail.model.mac import Mac
from dovetail.model.names import derive_id, link_alias, parse_alias, port_link

__all__ = [
    "add_pair",
    "alias_of",
    "attachment_id",
    "delete_foreign",
    "delete_owned",
    "delete_port",
    "is_inside",
    "is_owned",
    "mac_of",
    "port_mac",
]


def attachment_id(owner: Owner) -> str:
    """Derive the attachment's id, as ``engine/ids.py`` does."""
    return derive_id(owner.face, owner.network, owner.container, owner.ifname)


def alias_of(owner: Owner, store_id: str) -> str:
    """Write the alias of each link of `owner`."""
    return link_alias(store_id, "attachment", attachment_id(owner))


def is_owned(link: Link, owner: Owner) -> bool:
    """Say whether a link is `owner`'s."""
    alias = parse_alias(link.alias)
    return alias is not None and alias[1:] == ("attachment", attachment_id(owner))


def mac_of(seed: str, addresses: Iterable[IPInterface], owner: Owner) -> Mac:
    """Give the MAC that goes with the first address among those of `seed`, else with the attachment.

    Why with the address: see `sandbox_end.mac_of`.
    """
    first = next(iter(sorted(addresses, key=lambda address: address.version)), None)
    if first is not None:
        return Mac.derived(f"address/{seed}/{first.ip}")
    return Mac.derived(f"attachment/{owner.network}/{owner.container}/{owner.ifname}")


def port_mac(owner: Owner) -> Mac:
    """Give the host's end a high MAC: a bridge of somebody else's takes the lowest of its ports' and must keep its own."""
    return Mac.derived(f"port/{owner.network}/{owner.container}/{owner.ifname}", first=0xFE)


def add_pair(kernel: Kernel, end: LinkSpec, peer: LinkSpec, owner: Owner, undo: ExitStack) -> None:
    """Make `owner`'s pair as `Kernel.add_veth` does; `end` is the host's.

    A name that a configuration gives may be another link's. What the kernel takes by a second message only would then be
    done to that one, though the first is refused.
    """
    if end.name == port_link(attachment_id(owner)):
        undo.callback(kernel.delete_links, [end.name])
        kernel.add_veth(end, peer)
        return
    kernel.add_veth(end._replace(alias="", hairpin=False, isolated=False), peer)
    undo.callback(kernel.delete_links, [end.name])
    with kernel.batch():
        kernel.set_link(end.name, alias=end.alias)
        if end.hairpin or end.isolated:
            kernel.set_bridge_port(end.name, hairpin=end.hairpin or None, isolated=end.isolated or None)


def delete_port(kernel: Kernel, port: str, owner: Owner) -> None:
    """Delete the host's end of `owner`'s pair; where a configuration names it, only if the link of that name is it."""
    if port != port_link(attachment_id(owner)):
        link = kernel.link(port)
        if link is None or not is_owned(link, owner):
            return
    kernel.delete_links([port])


def delete_owned(kernel: Kernel, netns: Netns, owner: Owner) -> None:
    """Delete `owner`'s link in `netns`, whatever its name is by now."""
    with kernel.inside(netns) as inner:
        inner.delete_links([link.name for link in inner.links() if is_owned(link, owner)])


def delete_foreign(kernel: Kernel, netns: Netns, ifname: str, kinds: Collection[str]) -> None:
    """Delete what another program's ADD left in `netns`: a link of that name and one of the `kinds`, none of ours."""
    with kernel.inside(netns) as inner:
        link = inner.link(ifname)
        if link is not None and link.kind in kinds and parse_alias(link.alias) is None:
            inner.delete_links([ifname])


def is_inside(kernel: Kernel, sandbox: str, kind: str) -> bool:
    """Say whether the namespace at that path has a link of the kind that is an attachment's."""
    try:
        opened = kernel.open_netns(sandbox)
    except (InvalidArgument, NotFound):
        return False
    with opened, kernel.inside(opened) as inner:
        return any(link.kind == kind and parse_alias(link.alias) is not None for link in inner.links())
