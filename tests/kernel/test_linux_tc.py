"""Traffic control for real, seen by ``tc``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dovetail.errors import AlreadyExists, KernelError, NotFound, Unsupported
from dovetail.kernel import tc
from dovetail.kernel.commands import describe
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import Ifb, LinkSpec, Redirect, Tbf

pytestmark = pytest.mark.root

TBF = Tbf(rate=1_000_000, burst=100_000, limit=125_000)


@pytest.fixture
def kernel(host: Any) -> Iterator[LinuxKernel]:
    """A kernel with ``v0`` and ``v1``, a pair, and ``ifb-a``."""
    handle = LinuxKernel()
    handle.add_veth(LinkSpec("v0", up=True), LinkSpec("v1", up=True))
    try:
        handle.add_link(LinkSpec("ifb-a", mtu=1400, alias="whose", up=True), Ifb())
    except Unsupported:
        pytest.skip("this kernel has no CONFIG_IFB")
    yield handle
    handle.close()


def qdiscs(host: Any, link: str) -> dict[str, Any]:
    """Give the qdiscs of a link by kind, as ``tc -j`` has them."""
    return {one["kind"]: one for one in json.loads(host.run("tc", "-j", "qdisc", "show", "dev", link))}


def filters(host: Any, link: str) -> list[Any]:
    """Give the filters of what a link receives that have actions."""
    listed = json.loads(host.run("tc", "-j", "filter", "show", "dev", link, "ingress"))
    return [one["options"] for one in listed if "actions" in one.get("options", {})]


def test_an_ifb_is_a_link_of_that_kind(host: Any, kernel: LinuxKernel) -> None:
    link = host.links()["ifb-a"]

    assert link["linkinfo"]["info_kind"] == "ifb"
    assert (link["mtu"], link["ifalias"]) == (1400, "whose")
    assert "UP" in link["flags"]
    read = kernel.link("ifb-a")
    assert read is not None
    assert (read.kind, read.settings) == ("ifb", Ifb())


def test_a_tbf_is_the_root_with_a_handle_that_is_always_the_same(host: Any, kernel: LinuxKernel) -> None:
    kernel.set_tbf("v0", TBF)

    there = qdiscs(host, "v0")["tbf"]
    assert (there["handle"], there["root"]) == ("1:", True)
    assert there["options"] == {"rate": 1_000_000, "burst": 100_000, "lat": 25_000}


def test_a_tbf_that_is_set_again_changes(host: Any, kernel: LinuxKernel) -> None:
    kernel.set_tbf("v0", TBF)

    kernel.set_tbf("v0", Tbf(2_000_000, 50_000, 100_000))

    assert qdiscs(host, "v0")["tbf"]["options"] == {"rate": 2_000_000, "burst": 50_000, "lat": 25_000}


def test_a_tbf_takes_the_place_of_another_root(host: Any, kernel: LinuxKernel) -> None:
    host.run(
        "tc",
        "qdisc",
        "add",
        "dev",
        "v0",
        "root",
        "handle",
        "7:",
        "tbf",
        "rate",
        "1mbit",
        "burst",
        "9k",
        "latency",
        "9ms",
    )

    kernel.set_tbf("v0", TBF)

    assert qdiscs(host, "v0")["tbf"]["handle"] == "1:"


@pytest.mark.parametrize("rate", [2**32 - 1, 2**32, 2**32 + 7, 10**11])
def test_a_rate_may_have_more_than_32_bits(host: Any, kernel: LinuxKernel, rate: int) -> None:
    tbf = Tbf(rate, 10_000_000, rate // 40 + 10_000_000)

    kernel.set_tbf("v0", tbf)

    assert qdiscs(host, "v0")["tbf"]["options"]["rate"] == rate
    assert kernel.tbfs("v0") == {"v0": tc.kept(tbf)}


@pytest.mark.parametrize(
    "tbf",
    [
        TBF,
        Tbf(1, 1, 1),
        Tbf(999_999, 1_543_209, 1_568_208),
        Tbf(12, 4294967294, 2**33),
        Tbf(10**9, 77_777, 25_077_777),
    ],
)
def test_what_is_read_back_is_what_was_said_to_be_kept(kernel: LinuxKernel, tbf: Tbf) -> None:
    kernel.set_tbf("v0", tbf)

    assert kernel.tbfs() == kernel.tbfs("v0") == {"v0": tc.kept(tbf)}


def test_the_command_that_a_tbf_equals_makes_the_same(host: Any, kernel: LinuxKernel) -> None:
    kernel.set_tbf("v0", TBF)

    host.run("sh", "-ec", "\n".join(describe("set_tbf", "v1", TBF)))

    assert qdiscs(host, "v0")["tbf"] == qdiscs(host, "v1")["tbf"]


def test_a_burst_of_no_time_is_refused_with_the_command(kernel: LinuxKernel) -> None:
    with pytest.raises(KernelError, match="tc qdisc replace dev v0 root handle 1: tbf"):
        kernel.set_tbf("v0", Tbf(10**11, 1000, 10**9))


def test_a_tbf_needs_its_link(kernel: LinuxKernel) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        kernel.set_tbf("nowhere", TBF)


def test_deleting_a_tbf_leaves_what_is_none(host: Any, kernel: LinuxKernel) -> None:
    kernel.set_tbf("v0", TBF)
    host.run(
        "tc",
        "qdisc",
        "add",
        "dev",
        "v1",
        "root",
        "handle",
        "7:",
        "tbf",
        "rate",
        "1mbit",
        "burst",
        "9k",
        "latency",
        "9ms",
    )

    for name in ("v0", "v0", "v1", "ifb-a", "nowhere"):
        kernel.delete_tbf(name)

    assert "tbf" not in qdiscs(host, "v0")
    assert qdiscs(host, "v1")["tbf"]["handle"] == "7:"
    assert set(kernel.tbfs()) == {"v1"}


def test_a_redirect_sends_all_that_comes_in_to_the_other_link(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_redirect("v0", "ifb-a")

    assert qdiscs(host, "v0")["ingress"]["handle"] == "ffff:"
    [only] = filters(host, "v0")
    assert only["match"] == {"value": "0", "mask": "0", "offmask": "", "off": 0}
    assert only["flowid"] == "1:1"
    [action] = only["actions"]
    assert (action["kind"], action["mirred_action"], action["direction"]) == ("mirred", "redirect", "egress")
    assert (action["to_dev"], action["control_action"]) == ("ifb-a", {"type": "stolen"})


def test_the_commands_that_a_redirect_equals_make_the_same(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_redirect("v0", "ifb-a")

    host.run("sh", "-ec", "\n".join(describe("add_redirect", "v1", "ifb-a")))

    ours, theirs = filters(host, "v0"), filters(host, "v1")
    for one in (ours[0], theirs[0]):
        del one["actions"][0]["index"]
    assert ours == theirs
    assert sorted(kernel.redirects()) == [Redirect("v0", "ifb-a"), Redirect("v1", "ifb-a")]


def test_redirects_are_listed_by_link_and_tell_when_they_lead_nowhere(kernel: LinuxKernel) -> None:
    kernel.add_redirect("v0", "ifb-a")
    assert kernel.redirects() == kernel.redirects("v0") == [Redirect("v0", "ifb-a")]
    assert kernel.redirects("v1") == kernel.redirects("nowhere") == []

    kernel.delete_links(["ifb-a"])

    assert kernel.redirects() == [Redirect("v0", "")]


@pytest.mark.parametrize(
    "other",
    [
        "ip u32 match u32 0 0 action mirred egress redirect dev ifb-a",
        "ip u32 match ip dst 10.0.0.0/8 action mirred egress redirect dev ifb-a",
        "all u32 match u8 1 1 at 0 action mirred egress redirect dev ifb-a",
        "all u32 match u32 0 0 action mirred egress mirror dev ifb-a",
        "all u32 match u32 0 0 action mirred ingress redirect dev ifb-a",
        "all u32 match u32 0 0 flowid 1:1",
    ],
)
def test_filters_that_do_something_else_are_no_redirects(host: Any, kernel: LinuxKernel, other: str) -> None:
    host.run("tc", "qdisc", "add", "dev", "v0", "ingress")
    host.run("tc", "filter", "add", "dev", "v0", "parent", "ffff:", "protocol", *other.split())

    assert kernel.redirects() == []


@pytest.mark.parametrize("kind", ["ingress", "clsact"])
def test_a_redirect_leaves_somebodys_ingress_qdisc_alone(host: Any, kernel: LinuxKernel, kind: str) -> None:
    host.run("tc", "qdisc", "add", "dev", "v0", kind)

    with pytest.raises(AlreadyExists, match="ingress qdisc 'v0'"):
        kernel.add_redirect("v0", "ifb-a")

    assert kind in qdiscs(host, "v0")
    assert filters(host, "v0") == []


def test_deleting_a_redirect_takes_the_ingress_qdisc_and_leaves_a_clsact(
    host: Any, kernel: LinuxKernel
) -> None:
    kernel.add_redirect("v0", "ifb-a")
    host.run("tc", "qdisc", "add", "dev", "v1", "clsact")

    for name in ("v0", "v0", "v1", "nowhere"):
        kernel.delete_redirect(name)

    assert "ingress" not in qdiscs(host, "v0")
    assert "clsact" in qdiscs(host, "v1")


def test_a_filter_that_is_refused_takes_its_qdisc_with_it(
    host: Any, kernel: LinuxKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = tc.new_redirect
    monkeypatch.setattr(tc, "new_redirect", lambda index, _: right(index, 9999))  # which is no link

    with pytest.raises(KernelError, match="tc filter add dev v0"):
        kernel.add_redirect("v0", "ifb-a")

    assert "ingress" not in qdiscs(host, "v0")


def test_a_redirect_needs_both_links(host: Any, kernel: LinuxKernel) -> None:
    for link, to in (("v0", "nowhere"), ("nowhere", "ifb-a")):
        with pytest.raises(NotFound, match="nowhere"):
            kernel.add_redirect(link, to)

    assert "ingress" not in qdiscs(host, "v0")


def test_a_train_makes_an_ifb_and_what_is_on_it(host: Any, kernel: LinuxKernel) -> None:
    with kernel.batch():
        kernel.set_tbf("v0", TBF)
        kernel.add_link(LinkSpec("ifb-b", up=True), Ifb())
        kernel.set_tbf("ifb-b", TBF)
        kernel.add_redirect("v0", "ifb-b")

    assert set(kernel.tbfs()) == {"v0", "ifb-b"}
    assert kernel.redirects() == [Redirect("v0", "ifb-b")]
    assert qdiscs(host, "ifb-b")["tbf"]["root"] is True
