"""What the kernel's refusal to make a link on a parent means.

It says little more than EBUSY or EINVAL (drivers/net/macvlan.c, drivers/net/ipvlan/, net/8021q/vlan.c); the
reason is read from the links that are there. Links of other namespaces on the same parent cannot be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from errno import EBUSY, EEXIST, EINVAL, EOPNOTSUPP, ERANGE

from dovetail.errors import AlreadyExists, Conflict, DovetailError, InvalidArgument, Unsupported
from dovetail.kernel.link_settings import kind_of
from dovetail.kernel.netlink import Refusal
from dovetail.kernel.protocol import Link, LinkSettings, LinkSpec, Macvlan, Vlan
from dovetail.kernel.refusals import UNKNOWN_KIND

__all__ = ["explain_link"]

_MODULES = {"vlan": "8021q"}  # the others are named as their kind
_TAKERS = frozenset({"macvlan", "macvtap", "ipvlan", "ipvtap"})
_PASSTHRU = Macvlan("passthru")
_VLAN_EXISTS = "VLAN device already exists"  # vlan_check_real_dev, net/8021q/vlan.c


def explain_link(
    refusal: Refusal, spec: LinkSpec, settings: LinkSettings, parent: Link | None, links: Sequence[Link]
) -> DovetailError | None:
    """Give the exception for `refusal` of making `spec` on `parent`, or None where nothing special is known.

    links: those of the parent's namespace.
    """
    kind = kind_of(settings)
    if refusal.errno == EOPNOTSUPP and refusal.extack == UNKNOWN_KIND:
        module = _MODULES.get(kind, kind)
        return Unsupported(f"this kernel has no {kind} links", hint=f"try `modprobe {module}`")
    if refusal.errno == EEXIST:
        return _exists(refusal, spec, settings, parent)
    return _unfit(refusal.errno, spec, settings, parent, links) if parent is not None else None


def _unfit(
    errno: int, spec: LinkSpec, settings: LinkSettings, parent: Link, links: Sequence[Link]
) -> DovetailError | None:
    if errno in (EINVAL, ERANGE) and spec.mtu > parent.mtu:
        return InvalidArgument(
            f"an MTU of {spec.mtu} is more than {parent.name!r} has, which is {parent.mtu}",
            hint=f"ask for less, or raise the MTU of {parent.name}",
        )
    if errno == EBUSY:
        return _busy(kind_of(settings), parent, links)
    if errno == EINVAL and isinstance(settings, Macvlan):
        return _invalid(settings, parent, links)
    return None


def _exists(refusal: Refusal, spec: LinkSpec, settings: LinkSettings, parent: Link | None) -> DovetailError:
    if isinstance(settings, Vlan) and _VLAN_EXISTS in refusal.extack and parent is not None:
        return AlreadyExists("VLAN", f"{settings.id} of {parent.name}")
    if spec.netns is None:
        return AlreadyExists("interface", spec.name)
    where = f"in {spec.netns.path or 'the sandbox'}"
    return AlreadyExists("interface", spec.name, hint=f"{where}; choose another name")


def _busy(kind: str, parent: Link, links: Sequence[Link]) -> DovetailError:
    """Say who has the parent: the kernel lets one only take its frames (netdev_rx_handler_register, net/core/dev.c)."""
    hint = "give another parent"
    by_index = {link.ifindex: link for link in links}
    if parent.master:
        master = by_index.get(parent.master)
        of = f"{master.kind or 'link'} {master.name!r}" if master is not None else "another link"
        return Conflict(f"{parent.name!r} is a port of {of} and cannot carry {kind} links", hint=hint)
    others = {link.kind for link in links if _sits_on(link, parent)} & _TAKERS - {kind}
    if others:
        return Conflict(
            f"{parent.name!r} carries {others.pop()} links and cannot carry {kind} ones too", hint=hint
        )
    return Conflict(f"another kind of link has {parent.name!r}, so it cannot carry {kind} links", hint=hint)


def _invalid(settings: Macvlan, parent: Link, links: Sequence[Link]) -> DovetailError:
    if parent.name == "lo":
        return InvalidArgument("'lo' leads nowhere: no macvlan can be on it", hint="give a network card")
    exclusive = [link.name for link in links if _sits_on(link, parent) and link.settings == _PASSTHRU]
    if exclusive:
        return Conflict(f"{exclusive[0]!r} has {parent.name!r} for itself (macvlan mode passthru)")
    if settings == _PASSTHRU:
        return Conflict(
            f"{parent.name!r} carries other macvlan links already, and passthru wants it for itself",
            hint="remove them, or choose another mode or parent",
        )
    return Conflict(
        f"{parent.name!r} takes no more macvlan links: one in mode passthru has it, or it is no Ethernet interface",
        hint="give another parent",
    )


def _sits_on(link: Link, parent: Link) -> bool:
    return link.parent_ifindex == parent.ifindex and not link.parent_abroad
