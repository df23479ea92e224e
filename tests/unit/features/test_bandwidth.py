from __future__ import annotations

import hashlib
from contextlib import ExitStack

import pytest

from dovetail.errors import AlreadyExists, KernelError
from dovetail.features.bandwidth import (
    StaleIfb,
    differences,
    find_ifb,
    ifb_name,
    shape,
    stale_ifbs,
    unshape,
)
from dovetail.kernel.protocol import Dummy, Ifb, LinkSpec, Redirect, Tbf
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.bandwidth import parse_bandwidth
from dovetail.model.mac import Mac

IFB = ifb_name("mynet", "ctr1", "eth0")
BOTH = parse_bandwidth(
    ingress_rate=8_000_000, ingress_burst=800_000, egress_rate=4_000_000, egress_burst=400_000
)
ALIAS = "dovetail:store/endpoint/e1"


@pytest.fixture
def kernel() -> RecordingKernel:
    """A host with the ends of two veth pairs."""
    made = RecordingKernel()
    for name in ("v0", "v1"):
        made.add_veth(LinkSpec(name), LinkSpec(f"p{name}"))
    made.commands.clear()
    return made


def shaped(
    kernel: RecordingKernel, bandwidth: object = BOTH, *, link: str = "v0", ifb: str = IFB
) -> Mac | None:
    with ExitStack() as undo:
        mac = shape(kernel, link, ifb, bandwidth, mtu=1400, alias=ALIAS, undo=undo)  # type: ignore[arg-type]
        undo.pop_all()
    return mac


# -- names ----------------------------------------------------------------------------------------


def test_the_first_interface_has_the_reference_plugins_name() -> None:
    assert IFB == "bwp5145007e2a84"  # what it made for these two names


def test_two_interfaces_of_a_container_have_an_ifb_each() -> None:
    names = {ifb_name("mynet", "ctr1", ifname) for ifname in ("eth0", "eth1", "net1")}

    assert len(names) == 3
    assert all(len(name) == 15 and name.startswith("bwp") for name in names)


def test_a_name_is_of_no_other_network_and_container() -> None:
    assert ifb_name("mynet", "ctr1", "eth1") != ifb_name("mynet", "ctr1eth1", "eth0")
    assert ifb_name("mynet", "ctr1", "eth1") == "bwp" + hashlib.sha512(b"mynetctr1/eth1").hexdigest()[:12]


def test_an_ifb_of_the_reference_plugin_is_found_for_any_interface(kernel: RecordingKernel) -> None:
    kernel.add_link(LinkSpec(IFB), Ifb())

    assert find_ifb(kernel, "mynet", "ctr1", "net1") == find_ifb(kernel, "mynet", "ctr1", "eth0") == IFB


def test_what_is_of_another_interface_is_not_found(kernel: RecordingKernel) -> None:
    own = ifb_name("mynet", "ctr1", "net1")
    assert find_ifb(kernel, "mynet", "ctr1", "net1") == own

    shaped(kernel)  # eth0's, with an alias
    assert find_ifb(kernel, "mynet", "ctr1", "net1") == own

    kernel.set_link(IFB, alias="")  # the reference plugin's, but there is an own one
    shaped(kernel, link="v1", ifb=own)
    assert find_ifb(kernel, "mynet", "ctr1", "net1") == own


def test_another_kind_of_link_of_that_name_is_not_found(kernel: RecordingKernel) -> None:
    kernel.add_link(LinkSpec(IFB), Dummy())

    assert find_ifb(kernel, "mynet", "ctr1", "net1") != IFB


# -- shaping --------------------------------------------------------------------------------------


def test_shaping_gives_the_mac_of_the_ifb_that_it_made(kernel: RecordingKernel) -> None:
    mac = shaped(kernel)

    link = kernel.link(IFB)
    assert link is not None
    assert (link.kind, link.mac, link.mtu, link.alias, link.up) == ("ifb", mac, 1400, ALIAS, True)
    assert kernel.tbfs() == {"v0": Tbf(1_000_000, 100_000, 125_000), IFB: Tbf(500_000, 50_000, 62_500)}
    assert kernel.redirects() == [Redirect("v0", IFB)]


def test_without_a_bound_on_what_is_sent_there_is_no_ifb(kernel: RecordingKernel) -> None:
    assert shaped(kernel, parse_bandwidth(ingress_rate=8_000, ingress_burst=8_000)) is None

    assert set(kernel.tbfs()) == {"v0"}
    assert kernel.link(IFB) is None


def test_nothing_to_hold_to_is_nothing_to_do(kernel: RecordingKernel) -> None:
    assert shaped(kernel, parse_bandwidth()) is None

    assert kernel.commands == []


@pytest.mark.parametrize("step", range(1, 5))
def test_what_fails_at_any_step_is_undone(kernel: RecordingKernel, step: int) -> None:
    kernel.fail(at=step)

    with pytest.raises(KernelError), ExitStack() as undo:
        shape(kernel, "v0", IFB, BOTH, mtu=1400, alias=ALIAS, undo=undo)

    kernel.fail()
    assert kernel.link(IFB) is None
    assert kernel.tbfs() == {}
    assert kernel.redirects() == []


def test_somebodys_ingress_qdisc_survives_the_undoing(kernel: RecordingKernel) -> None:
    kernel.add_link(LinkSpec("i"), Ifb())
    kernel.add_redirect("v0", "i")

    with pytest.raises(AlreadyExists), ExitStack() as undo:
        shape(kernel, "v0", IFB, BOTH, mtu=1400, alias=ALIAS, undo=undo)

    assert kernel.redirects() == [Redirect("v0", "i")]
    assert kernel.tbfs() == {}


def test_an_ifb_that_was_left_behind_is_replaced(kernel: RecordingKernel) -> None:
    kernel.add_link(LinkSpec(IFB, alias="of the one before"), Ifb())

    shaped(kernel)

    link = kernel.link(IFB)
    assert link is not None
    assert link.alias == ALIAS


def test_an_ifb_that_another_link_uses_is_not_taken_from_it(kernel: RecordingKernel) -> None:
    shaped(kernel, link="v1")

    with pytest.raises(AlreadyExists, match="v1 sends through it"):
        shaped(kernel)

    assert kernel.redirects() == [Redirect("v1", IFB)]


# -- taking it away -------------------------------------------------------------------------------


def test_taking_it_away_leaves_the_veth_as_it_was(kernel: RecordingKernel) -> None:
    shaped(kernel)

    for _ in range(2):
        unshape(kernel, IFB, host_link="v0")

    assert kernel.link("v0") is not None
    assert kernel.link(IFB) is None
    assert kernel.tbfs() == {}
    assert kernel.redirects() == []


def test_the_ifb_goes_where_the_veth_has_gone(kernel: RecordingKernel) -> None:
    shaped(kernel)
    kernel.delete_links(["pv0"])
    kernel.commands.clear()

    for _ in range(2):
        unshape(kernel, IFB)
        unshape(kernel, IFB, host_link="v0")

    assert kernel.commands == [f"ip link del dev {IFB}"]


def test_a_redirect_to_somewhere_else_stays(kernel: RecordingKernel) -> None:
    kernel.add_link(LinkSpec("i"), Ifb())
    kernel.add_redirect("v0", "i")

    unshape(kernel, IFB, host_link="v0")

    assert kernel.redirects() == [Redirect("v0", "i")]


# -- checking -------------------------------------------------------------------------------------


def test_what_was_shaped_does_not_differ(kernel: RecordingKernel) -> None:
    shaped(kernel)
    kernel.commands.clear()

    assert differences(kernel, "v0", IFB, BOTH) == []
    assert kernel.commands == []


def test_a_burst_of_more_than_the_kernel_keeps_does_not_differ(kernel: RecordingKernel) -> None:
    large = parse_bandwidth(ingress_rate=8_000, ingress_burst=2**32 - 1)
    shaped(kernel, large)
    assert differences(kernel, "v0", IFB, large) == []

    there = kernel.tbfs()["v0"]
    kernel.set_tbf("v0", there._replace(burst=there.burst - 1000))
    [sentence] = differences(kernel, "v0", IFB, large)
    assert sentence.startswith(f"the burst of what is received, on 'v0', is {there.burst - 1000} bytes, not")


def test_each_difference_is_a_sentence(kernel: RecordingKernel) -> None:
    assert differences(kernel, "nowhere", IFB, BOTH) == ["interface 'nowhere' is gone"]
    assert differences(kernel, "v0", IFB, BOTH) == [
        "'v0' has no tbf qdisc, so what is received has no bound",
        f"interface '{IFB}', which holds what is sent to its rate, is gone",
        f"what 'v0' receives is not redirected to '{IFB}', so what is sent has no bound",
    ]

    shaped(kernel)
    kernel.set_tbf("v0", Tbf(2_000_000, 100_000, 150_000))
    kernel.delete_tbf(IFB)
    kernel.set_link(IFB, up=False)
    assert differences(kernel, "v0", IFB, BOTH) == [
        "the rate of what is received, on 'v0', is 2000000 bytes a second, not 1000000",
        "the limit of what is received, on 'v0', is 150000 bytes, not 125000",
        f"interface '{IFB}' is down, so nothing can be sent",
        f"'{IFB}' has no tbf qdisc, so what is sent has no bound",
    ]


# -- what is left behind --------------------------------------------------------------------------


def test_an_ifb_that_nothing_leads_to_is_stale(kernel: RecordingKernel) -> None:
    theirs = ifb_name("mynet", "ctr2", "eth0")
    shaped(kernel)
    kernel.add_link(LinkSpec(theirs), Ifb())
    kernel.add_link(LinkSpec("ifb0"), Ifb())
    kernel.add_link(LinkSpec("bwp000000000000"), Dummy())
    assert stale_ifbs(kernel) == [StaleIfb(theirs, "", None)]

    kernel.delete_links(["pv0"])  # the container died without DEL

    assert sorted(stale_ifbs(kernel)) == sorted(
        [StaleIfb(IFB, ALIAS, ("store", "endpoint", "e1")), StaleIfb(theirs, "", None)],
        key=lambda one: one.name,
    )
