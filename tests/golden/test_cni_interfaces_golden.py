"""The commands of the kinds of parts that make an interface, for each of what matters to them, against committed text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dovetail.drivers.attachment_link import attachment_id
from dovetail.drivers.carried_link import IpvlanLinks, MacvlanLinks, VlanLinks
from dovetail.drivers.host_device import HostDevices
from dovetail.drivers.lone_link import DummyLinks, TapLinks
from dovetail.drivers.ptp_pair import PtpPairs
from dovetail.kernel.protocol import Dummy, LinkSpec
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.attachment import Attachment, Route
from dovetail.model.carried_link import CarriedLink, IpvlanLink, MacvlanLink, VlanLink
from dovetail.model.endpoint import Owner
from dovetail.model.host_device import HostDevice
from dovetail.model.lone_link import DummyLink, TapLink
from dovetail.model.names import port_link
from dovetail.model.ptp_pair import PtpPair

_HERE = Path(__file__).parent / "cni"
_OWNER = Owner(face="cni", network="pods", container="c1", ifname="eth0")
_V4, _V6 = ip_interface("10.60.0.2/24"), ip_interface("fd60::2/64")
_ROUTE = Route(destination=ip_network("0.0.0.0/0"), gateway=ip_address("10.60.0.1"))


def attachment(*addresses: Any, routes: tuple[Route, ...] = (_ROUTE,)) -> Attachment:
    return Attachment(ifname="eth0", addresses=addresses, routes=routes, sandbox="/run/netns/c1")


def recorded(how: Any, detail: Any) -> str:
    """Give what making and taking it back, twice, runs; and what it has in the firewall."""
    kernel = RecordingKernel()
    kernel.add_link(LinkSpec("up0", up=True), Dummy())
    netns = kernel.create_netns("/run/netns/c1")
    with kernel.inside(netns) as inner:
        inner.add_link(LinkSpec("wire", up=True), Dummy())
        inner.add_bridge("br0")
    kernel.commands.clear()
    if getattr(detail, "port", "") == "derived":
        detail = msgspec.structs.replace(detail, port=port_link(attachment_id(_OWNER)))
    with ExitStack() as undo:
        made = how.make(kernel, detail, owner=_OWNER, netns=netns, store_id="store", undo=undo)
        undo.pop_all()
    assert how.differences(kernel, made, owner=_OWNER, netns=netns) == []
    elements = how.elements(made) if hasattr(how, "elements") else ()
    lines = [*kernel.commands, *(f"element: {element.set} {element.text}" for element in elements), "--"]
    kernel.commands.clear()
    for _ in range(2):
        how.unmake(kernel, made, owner=_OWNER, netns=netns)
        how.unmake(kernel, made, owner=_OWNER, netns=None)
    return "\n".join([*lines, *dict.fromkeys(kernel.commands)])


def ptp() -> Iterator[tuple[str, str, object]]:
    v4, v6 = ip_address("10.60.0.1"), ip_address("fd60::1")
    details = {
        "IPv4": PtpPair(port="derived", attachment=attachment(_V4), gateways=(v4,)),
        "both families, MTU, masquerade": PtpPair(
            port="derived",
            attachment=attachment(_V4, _V6),
            gateways=(v4, v6),
            mtu=1400,
            masquerade=True,
        ),
        "a gateway outside the subnet, a name": PtpPair(
            port="web",
            attachment=attachment(ip_interface("10.61.0.2/32")),
            gateways=(ip_address("169.254.1.1"),),
        ),
    }
    for title, detail in details.items():
        yield title, recorded(PtpPairs(), detail), detail


_CARRIED: dict[str, tuple[Any, CarriedLink]] = {
    "macvlan": (MacvlanLinks(), MacvlanLink(master="up0", attachment=attachment(_V4, _V6))),
    "ipvlan": (IpvlanLinks(), IpvlanLink(master="up0", attachment=attachment(_V4, _V6))),
    "vlan": (VlanLinks(), VlanLink(master="up0", id=7, attachment=attachment(_V4, _V6))),
}


def carried() -> Iterator[tuple[str, str, object]]:
    for kind, (how, plain) in _CARRIED.items():
        details = {
            "": plain,
            "MTU, no addresses": msgspec.structs.replace(plain, mtu=1400, attachment=attachment(routes=())),
            "master in the container": msgspec.structs.replace(plain, master="wire", in_container=True),
        }
        if isinstance(plain, MacvlanLink):
            details["passthru"] = msgspec.structs.replace(plain, mode="passthru")
            details["queue"] = msgspec.structs.replace(plain, mode="private", bc_queue_len=5000)
        if isinstance(plain, IpvlanLink):
            details["l3"] = msgspec.structs.replace(plain, mode="l3")
        for title, detail in details.items():
            yield f"{kind} {title}".strip(), recorded(how, detail), detail


def lone() -> Iterator[tuple[str, str, object]]:
    plain = attachment(_V4, _V6)
    details: dict[str, tuple[Any, Any]] = {
        "dummy": (DummyLinks(), DummyLink(attachment=plain)),
        "tap": (TapLinks(), TapLink(attachment=plain)),
        "tap all keys": (
            TapLinks(),
            TapLink(
                attachment=attachment(routes=()), mtu=1400, multi_queue=True, owner=7, group=8, bridge="br0"
            ),
        ),
    }
    for title, (how, detail) in details.items():
        yield title, recorded(how, detail), detail


def host_device() -> Iterator[tuple[str, str, object]]:
    details = {
        "": HostDevice(attachment=attachment(_V4), device="up0"),
        "no addresses, an alias": HostDevice(attachment=attachment(routes=()), device="up0", alias="lab"),
        "a process has it": HostDevice(attachment=attachment(_V4), pci="0000:3b:00.1", driver="vfio-pci"),
    }
    for title, detail in details.items():
        yield f"host-device {title}".strip(), recorded(HostDevices(), detail), detail


@pytest.mark.parametrize("cases", [ptp, carried, lone, host_device], ids=lambda cases: cases.__name__)
def test_each_kind_gives_the_golden_commands(
    cases: Callable[[], Iterator[tuple[str, str, object]]], compare: Callable[..., None]
) -> None:
    compare(_HERE / f"{cases.__name__}.txt", cases())
