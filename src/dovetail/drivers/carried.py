"""Links that another one carries (macvlan, ipvlan, VLAN): made where one may be about to go, announced, compared."""

from __future__ import annotations

import time
from collections.abc import Iterator

from dovetail.drivers.protocol import Difference
from dovetail.errors import AlreadyExists
from dovetail.kernel import link_settings
from dovetail.kernel.protocol import Ipvlan, Kernel, Link, LinkSettings, LinkSpec, Macvlan, Netns, Tap, Vlan
from dovetail.model.attachment import Attachment

__all__ = [
    "add_patiently",
    "announce",
    "delete_inside",
    "differences",
    "differences_of_carrier",
    "has_own_mac",
]

_V6 = 6
_CLEANUP_S = 5.0  # it takes some 20 ms, and longer where many namespaces end at once
_POLL_S = 0.01


def has_own_mac(settings: LinkSettings) -> bool:
    """Say whether a link made so has a MAC that is not its carrier's, if none is asked for."""
    return isinstance(settings, Macvlan) and settings.mode != "passthru"


def add_patiently(kernel: Kernel, spec: LinkSpec, settings: LinkSettings, carrier: str) -> None:
    """Make the link; where a VLAN has one, see whether that goes with a namespace that has ended.

    The kernel clears those away in the background (cleanup_net, net/core/net_namespace.c), and a container
    that comes back is faster. Raises AlreadyExists of kind ``VLAN`` where it stays.
    """
    deadline = time.monotonic() + _CLEANUP_S
    while True:
        try:
            kernel.add_link(spec, settings, parent=carrier)
        except AlreadyExists as exc:
            if exc.kind != "VLAN" or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
        else:
            return


def delete_inside(kernel: Kernel, sandbox: Netns, ifname: str) -> None:
    """Delete the link of that name in `sandbox`, which was made there a moment ago."""
    with kernel.inside(sandbox) as inner:
        inner.delete_links([ifname])


def announce(inner: Kernel, attachment: Attachment) -> None:
    """Let the interface tell the wire its addresses when it comes up: neighbours may know them by another MAC."""
    versions = {address.version for address in attachment.addresses}
    if 4 in versions:
        inner.set_sysctl(f"net/ipv4/conf/{attachment.ifname}/arp_notify", "1")
    if _V6 in versions:
        inner.set_sysctl(f"net/ipv6/conf/{attachment.ifname}/ndisc_notify", "1")


def differences_of_carrier(name: str, carrier: Link | None) -> Iterator[Difference]:
    """Say where the carrier `name` cannot carry anything."""
    if carrier is None:
        yield f"the parent {name!r} is gone"
    elif not carrier.up:
        yield f"the parent {name!r} is down"


def differences(settings: LinkSettings, link: Link, carrier: Link | None) -> Iterator[Difference]:
    """Say how `link` is not as it was made: its kind, its settings, what carries it."""
    kind = link_settings.kind_of(settings)
    if link.kind != kind:
        yield f"interface {link.name!r} is of kind {link.kind or 'network card'}, not {kind}"
        return
    if link.settings != settings:
        yield f"interface {link.name!r} is {_words(link.settings)}, not {_words(settings)}"
    if carrier is not None and link.parent_ifindex != carrier.ifindex:
        yield f"interface {link.name!r} is not on {carrier.name!r}"


def _words(settings: object) -> str:
    match settings:
        case Macvlan(mode, 0):
            return f"in mode {mode}"
        case Macvlan(mode, length):
            return f"in mode {mode} with a queue of {length} broadcasts"
        case Ipvlan(mode, flag):
            return f"in mode {mode} with flag {flag}"
        case Vlan(number):
            return f"VLAN {number}"
        case Tap(multi_queue, owner, group):
            return f"{'of several queues' if multi_queue else 'of one queue'}, for user {owner} and group {group}"
        case _:
            return "in another mode"
