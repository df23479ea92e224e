"""Bandwidth: a rate for what an endpoint receives, and one for what it sends.

What a container receives the host sends, on its end of the veth pair: there a token bucket (tbf) is the root qdisc.
What a container sends the host receives, and receiving has no queue. So it is redirected to an ifb, a link of
the host that does nothing but have one, with a token bucket there. All objects and numbers are those of the
CNI reference plugin ``bandwidth``; where its arithmetic overflows, ours stops at the largest number (`tc.kept`).

The token bucket and the redirect go with the veth. The ifb does not, so a container that dies without DEL leaves it:
`stale_ifbs` finds it.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import ExitStack
from typing import NamedTuple

from dovetail.errors import AlreadyExists
from dovetail.kernel import tc
from dovetail.kernel.protocol import Ifb, Kernel, LinkSpec, Tbf
from dovetail.model.bandwidth import Bandwidth, Rate
from dovetail.model.mac import Mac
from dovetail.model.names import parse_alias

__all__ = ["StaleIfb", "differences", "find_ifb", "ifb_name", "shape", "stale_ifbs", "unshape"]

_LATENCY_US = 25_000  # how long a packet may wait: the reference plugin's constant
_US = 1_000_000
_FIRST = "eth0"
_PREFIX = "bwp"
_IFB_NAME = re.compile(r"bwp[0-9a-f]{12}")


class StaleIfb(NamedTuple):
    """An ifb that nothing is redirected to. owner: (store id, kind, id) of its alias, None for the reference plugin's."""

    name: str
    alias: str
    owner: tuple[str, str, str] | None


def ifb_name(network: str, container: str, ifname: str) -> str:
    """Name the ifb of an interface: ``bwp`` and 12 digits of a hash.

    The reference plugin hashes the names of network and container, so two interfaces of a container on one network
    collide there. ``eth0`` has its name here as well: DEL of either plugin removes what the other made. Any other
    interface has its name hashed too, so it goes beside. What the reference plugin made for another interface than
    ``eth0`` is found by `find_ifb`; what is made here for one, that plugin's DEL leaves, and `stale_ifbs` finds it.
    """
    # no network's or container's name has a slash, so this is never the hash of two other names
    further = "" if ifname == _FIRST else f"/{ifname}"
    digest = hashlib.sha512(f"{network}{container}{further}".encode()).hexdigest()
    return _PREFIX + digest[:12]


def find_ifb(kernel: Kernel, network: str, container: str, ifname: str) -> str:
    """Name the ifb that an interface has, for CHECK and DEL: its own, or what the reference plugin made.

    The latter is told by its having no alias, and counts only where there is no own one.
    """
    own = ifb_name(network, container, ifname)
    theirs = ifb_name(network, container, _FIRST)
    if own == theirs or kernel.link(own) is not None:
        return own
    link = kernel.link(theirs)
    return theirs if link is not None and link.kind == "ifb" and not link.alias else own


def shape(
    kernel: Kernel,
    host_link: str,
    ifb: str,
    bandwidth: Bandwidth,
    *,
    mtu: int,
    alias: str,
    undo: ExitStack,
) -> Mac | None:
    """Hold what goes through a veth pair to `bandwidth`, by its end `host_link` in the namespace of `kernel`.

    mtu: of `host_link`, for the ifb, whose owner `alias` names. Gives the MAC of the ifb, None where there is none.
    To change what is shaped, `unshape` it with its `host_link` first. An ifb that a container of these names has left
    behind is replaced.

    Raises AlreadyExists (another link uses the ifb, or `host_link` has an ingress qdisc), NotFound, Unsupported
    (this kernel has no ifb, tbf), KernelError.
    """
    ingress, egress = bandwidth.ingress, bandwidth.egress
    mac = Mac.derived(ifb)
    if egress is not None:
        _clear(kernel, host_link, ifb)
        undo.callback(kernel.delete_links, [ifb])
    if ingress is not None:
        undo.callback(kernel.delete_tbf, host_link)
    with kernel.batch():
        if ingress is not None:
            kernel.set_tbf(host_link, _bucket(ingress))
        if egress is not None:
            kernel.add_link(LinkSpec(ifb, mac, mtu, alias=alias, up=True), Ifb())
            kernel.set_tbf(ifb, _bucket(egress))
    if egress is None:
        return None
    # apart from the train: undoing must not take away an ingress qdisc that was somebody else's
    kernel.add_redirect(host_link, ifb)
    undo.callback(kernel.delete_redirect, host_link)
    return mac


def unshape(kernel: Kernel, ifb: str, *, host_link: str = "") -> None:
    """Remove the ifb, and from `host_link`, where that stays, its rate and its redirect; what is gone is no error.

    Without `host_link` what is still redirected to the ifb is dropped, so the veth must go too.
    """
    redirected = host_link and any(redirect.to in (ifb, "") for redirect in kernel.redirects(host_link))
    with kernel.batch():
        if redirected:
            kernel.delete_redirect(host_link)
        if host_link:
            kernel.delete_tbf(host_link)
        kernel.delete_links([ifb])


def differences(kernel: Kernel, host_link: str, ifb: str, bandwidth: Bandwidth) -> list[str]:
    """Say what is not as `shape` makes it, a sentence each, for CHECK; changes nothing."""
    if kernel.link(host_link) is None:
        return [f"interface {host_link!r} is gone"]
    found = _of_bucket(kernel, host_link, bandwidth.ingress, "received")
    if bandwidth.egress is None:
        return found
    link = kernel.link(ifb)
    if link is None:
        found.append(f"interface {ifb!r}, which holds what is sent to its rate, is gone")
    elif not link.up:
        found.append(f"interface {ifb!r} is down, so nothing can be sent")
    if link is not None:
        found += _of_bucket(kernel, ifb, bandwidth.egress, "sent")
    if ifb not in {redirect.to for redirect in kernel.redirects(host_link)}:
        found.append(
            f"what {host_link!r} receives is not redirected to {ifb!r}, so what is sent has no bound"
        )
    return found


def stale_ifbs(kernel: Kernel) -> list[StaleIfb]:
    """List the ifbs of ours, and of the reference plugin, that no link of this namespace redirects to any more.

    One that is just being made is listed too: ask its owner's lock, or again after a while, before removing it.
    """
    ifbs = [link for link in kernel.links() if link.kind == "ifb" and _IFB_NAME.fullmatch(link.name)]
    used = {redirect.to for redirect in kernel.redirects()} if ifbs else set()
    return [StaleIfb(i.name, i.alias, parse_alias(i.alias)) for i in ifbs if i.name not in used]


def _clear(kernel: Kernel, host_link: str, ifb: str) -> None:
    if kernel.link(ifb) is None:
        return
    for redirect in kernel.redirects():
        if redirect.to == ifb and redirect.link != host_link:
            hint = f"{redirect.link} sends through it: delete that endpoint first"
            raise AlreadyExists("interface", ifb, hint=hint)
    kernel.delete_links([ifb])


def _bucket(wanted: Rate) -> Tbf:
    """Give the token bucket of a rate: what waits may wait 25 ms."""
    rate, burst = wanted.rate_bytes, wanted.burst_bytes
    return Tbf(rate, burst, rate * _LATENCY_US // _US + burst)


def _of_bucket(kernel: Kernel, link: str, wanted: Rate | None, what: str) -> list[str]:
    if wanted is None:
        return []
    there = kernel.tbfs(link).get(link)
    if there is None:
        return [f"{link!r} has no tbf qdisc, so what is {what} has no bound"]
    bucket = _bucket(wanted)
    if there in (tc.kept(bucket), tc.kept(bucket, wraps=True)):
        return []
    right = tc.kept(bucket)
    names = ("rate", "burst", "limit")
    return [
        f"the {name} of what is {what}, on {link!r}, is {is_} bytes{' a second' if name == 'rate' else ''}, not {should}"
        for name, is_, should in zip(names, there, right, strict=True)
        if is_ != should
    ]
