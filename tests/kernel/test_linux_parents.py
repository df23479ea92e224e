"""Links on a parent: macvlan for real, seen by ``ip``; ipvlan, VLAN and dummy where the kernel has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dovetail.errors import AlreadyExists, Conflict, InvalidArgument, KernelError, NotFound, Unsupported
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import Dummy, Ipvlan, LinkSettings, LinkSpec, Macvlan, Netns, Vlan, Vrf
from dovetail.model.mac import Mac

pytestmark = pytest.mark.root

MAC = Mac("02:00:5e:10:00:01")


@pytest.fixture
def kernel(host: Any) -> Iterator[LinuxKernel]:
    """A kernel with ``up0``, which plays the network card."""
    handle = LinuxKernel()
    handle.add_veth(LinkSpec("up0", up=True), LinkSpec("wire0", up=True))
    yield handle
    handle.close()


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
def test_a_macvlan_has_its_mode_and_what_is_not_given_from_its_parent(
    host: Any, kernel: LinuxKernel, mode: Any
) -> None:
    kernel.set_link("up0", mtu=1400)

    kernel.add_link(LinkSpec("m0", alias="dovetail:x"), Macvlan(mode), parent="up0")

    link = host.links()["m0"]
    assert link["linkinfo"] == {"info_kind": "macvlan", "info_data": {**data(link), "mode": mode}}
    assert (link["link"], link["mtu"], link["ifalias"]) == ("up0", 1400, "dovetail:x")
    assert "UP" not in link["flags"]


def data(link: Any) -> Any:
    return link["linkinfo"]["info_data"]


def test_a_macvlan_is_born_configured_in_a_sandbox_on_a_parent_of_the_host(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    with kernel.inside(box) as inner:  # indices are counted in each namespace: these two differ
        for name in ("br0", "br1", "br2"):
            inner.add_bridge(name)

    kernel.add_link(
        LinkSpec("eth0", MAC, 1300, netns=box, alias="inside", up=True), Macvlan("private"), parent="up0"
    )

    link = host.links(box.path)["eth0"]
    assert (link["address"], link["mtu"], link["ifalias"]) == (MAC, 1300, "inside")
    assert data(link)["mode"] == "private"
    assert "UP" in link["flags"]
    assert link["link_index"] == host.links()["up0"]["ifindex"]
    assert set(host.links()) == {"lo", "up0", "wire0"}


def test_a_macvlan_reads_as_it_was_made_from_either_side(kernel: LinuxKernel, box: Netns) -> None:
    kernel.add_link(LinkSpec("here"), Macvlan("vepa"), parent="up0")
    kernel.add_link(LinkSpec("there", netns=box), Macvlan("vepa"), parent="up0")
    parent = kernel.link("up0")
    here = kernel.link("here")
    with kernel.inside(box) as inner:
        there = inner.link("there")

    assert parent is not None
    assert here is not None
    assert there is not None
    assert here.settings == there.settings == Macvlan("vepa")
    assert here.parent_ifindex == there.parent_ifindex == parent.ifindex
    assert (here.parent_abroad, there.parent_abroad) == (False, True)
    assert here.kind == "macvlan"


def test_a_mode_that_is_not_ours_has_no_settings(host: Any, kernel: LinuxKernel) -> None:
    host.run("ip", "link", "add", "link", "up0", "name", "m0", "type", "macvlan", "mode", "source")

    link = kernel.link("m0")

    assert link is not None
    assert (link.kind, link.settings) == ("macvlan", None)


def test_a_macvlan_can_be_made_a_port_of_a_bridge_where_it_is_born(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    kernel.add_bridge("br0")
    with kernel.inside(box) as inner:
        inner.add_bridge("br0")

    kernel.add_link(LinkSpec("m0", master="br0", hairpin=True, up=True), Macvlan(), parent="up0")
    kernel.add_link(LinkSpec("m1", netns=box, master="br0", hairpin=True, up=True), Macvlan(), parent="up0")

    for link in (host.links()["m0"], host.links(box.path)["m1"]):
        assert link["master"] == "br0"
        assert link["linkinfo"]["info_slave_data"]["hairpin"] is True
        assert "UP" in link["flags"]


def test_a_macvlan_may_hold_more_broadcasts_back(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_link(LinkSpec("m0"), Macvlan("bridge", 500), parent="up0")
    kernel.add_link(LinkSpec("m1"), Macvlan("bridge"), parent="up0")

    links = host.links()
    assert (data(links["m0"])["bcqueuelen"], data(links["m1"])["bcqueuelen"]) == (500, 1000)
    found = {link.name: link.settings for link in kernel.links()}
    assert (found["m0"], found["m1"]) == (Macvlan("bridge", 500), Macvlan("bridge"))


def test_a_parent_may_be_in_the_sandbox_itself(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    kernel.add_link(LinkSpec("net0", netns=box, up=True), Macvlan(), parent="up0")

    with kernel.inside(box) as inner:
        inner.add_link(LinkSpec("net1", MAC, 1300, up=True), Macvlan("private"), parent="net0")

    # the kernel puts a macvlan on a macvlan onto the parent of that
    link = host.links(box.path)["net1"]
    assert (link["link_index"], link["address"], link["mtu"]) == (host.links()["up0"]["ifindex"], MAC, 1300)
    assert data(link)["mode"] == "private"


def test_a_train_makes_a_parent_and_what_sits_on_it(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    with kernel.batch():
        kernel.add_veth(LinkSpec("up1", up=True), LinkSpec("wire1"))
        kernel.add_link(LinkSpec("m0", up=True), Macvlan(), parent="up1")
        kernel.add_link(LinkSpec("eth0", netns=box, alias="a"), Macvlan(), parent="up1")

    assert host.links()["m0"]["link"] == "up1"
    assert host.links(box.path)["eth0"]["ifalias"] == "a"


def test_a_link_goes_with_its_parent_and_without_it(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    for name in ("m0", "m1"):
        kernel.add_link(LinkSpec(name), Macvlan(), parent="up0")
    kernel.add_link(LinkSpec("eth0", netns=box), Macvlan(), parent="up0")

    kernel.delete_links(["m0"])
    assert set(host.links()) == {"lo", "up0", "wire0", "m1"}

    kernel.delete_links(["wire0", "m1"])
    assert set(host.links()) == {"lo"}
    assert set(host.links(box.path)) == {"lo"}


# -- refusals -------------------------------------------------------------------------------------


def on(parent: str, settings: LinkSettings, name: str = "m9", **more: Any) -> Callable[[LinuxKernel], None]:
    return lambda kernel: kernel.add_link(LinkSpec(name, **more), settings, parent=parent)


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        (on("up0", Macvlan(), "wire0"), AlreadyExists, "interface 'wire0' already exists"),
        (on("no", Macvlan()), NotFound, "no such interface: 'no'"),
        (on("up0", Macvlan(), mtu=1501), InvalidArgument, "MTU of 1501 is more than 'up0' has, which is 1500"),
        (on("lo", Macvlan()), InvalidArgument, "'lo' leads nowhere"),
        (on("", Macvlan()), KernelError, "ip link add name m9 type macvlan mode bridge`"),
        (on("port0", Macvlan()), Conflict, "'port0' is a port of bridge 'br0' and cannot carry macvlan"),
        (on("shared0", Macvlan("passthru")), Conflict, "carries other macvlan links already, and passthru"),
        (on("taken0", Macvlan()), Conflict, "'p0' has 'taken0' for itself"),
        (on("taken0", Macvlan("passthru")), Conflict, "'p0' has 'taken0' for itself"),
        (on("shared0", Macvlan(), mac=MAC, up=True), KernelError, "another link on the same parent has this MAC"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_in_the_way(
    host: Any, kernel: LinuxKernel, act: Callable[[LinuxKernel], None], kind: type[Exception], text: str
) -> None:
    kernel.add_bridge("br0")
    for name, master in (("port0", "br0"), ("shared0", ""), ("taken0", "")):
        kernel.add_veth(LinkSpec(name, master=master, up=True), LinkSpec(f"far-{name}"))
    kernel.add_link(LinkSpec("m0", MAC, up=True), Macvlan(), parent="shared0")
    kernel.add_link(LinkSpec("p0"), Macvlan("passthru"), parent="taken0")
    before = set(host.links())

    with pytest.raises(kind, match=text):
        act(kernel)

    assert set(host.links()) == before, "something half-done was left"


def test_a_taken_name_in_the_sandbox_is_named_with_the_place(kernel: LinuxKernel, box: Netns) -> None:
    kernel.add_link(LinkSpec("eth0", netns=box), Macvlan(), parent="up0")

    with pytest.raises(AlreadyExists, match=rf"'eth0' already exists \(in {box.path}; choose another name\)"):
        kernel.add_link(LinkSpec("eth0", netns=box), Macvlan(), parent="up0")


def test_what_a_passthru_elsewhere_has_is_refused_without_its_name(kernel: LinuxKernel, box: Netns) -> None:
    kernel.add_link(LinkSpec("eth0", netns=box), Macvlan("passthru"), parent="up0")

    with pytest.raises(Conflict, match="'up0' takes no more macvlan links: one in mode passthru has it"):
        kernel.add_link(LinkSpec("m0"), Macvlan(), parent="up0")


def test_a_link_that_cannot_be_configured_in_its_sandbox_is_not_left(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    with pytest.raises(NotFound, match="no-bridge"):
        kernel.add_link(LinkSpec("eth0", netns=box, master="no-bridge"), Macvlan(), parent="up0")

    assert set(host.links(box.path)) == {"lo"}
    assert set(host.links()) == {"lo", "up0", "wire0"}


# -- kinds that not every kernel has --------------------------------------------------------------


@pytest.fixture
def needs(kernel: LinuxKernel) -> Callable[[LinkSettings, str], None]:
    """Skip where the kernel has no such kind of link: that is found out by making one."""

    def probe(settings: LinkSettings, feature: str) -> None:
        try:
            kernel.add_link(
                LinkSpec("probe"), settings, parent="" if isinstance(settings, (Dummy, Vrf)) else "up0"
            )
        except Unsupported:
            pytest.skip(f"this kernel has no {feature}")
        kernel.delete_links(["probe"])

    return probe


@pytest.mark.parametrize(
    ("mode", "flag"), [("l2", "bridge"), ("l3", "private"), ("l3s", "vepa"), ("l2", "private")]
)
def test_an_ipvlan_has_its_mode_its_flag_and_its_parents_mac(
    host: Any, kernel: LinuxKernel, box: Netns, needs: Callable[..., None], mode: Any, flag: Any
) -> None:
    needs(Ipvlan(), "CONFIG_IPVLAN")

    kernel.add_link(LinkSpec("eth0", netns=box, up=True), Ipvlan(mode, flag), parent="up0")

    link, parent = host.links(box.path)["eth0"], host.links()["up0"]
    assert link["linkinfo"]["info_kind"] == "ipvlan"
    assert (data(link)["mode"], link["address"]) == (mode, parent["address"])
    with kernel.inside(box) as inner:
        read = inner.link("eth0")
    assert read is not None
    assert (read.settings, read.parent_ifindex) == (Ipvlan(mode, flag), parent["ifindex"])


def test_a_parent_carries_macvlan_or_ipvlan_links(kernel: LinuxKernel, needs: Callable[..., None]) -> None:
    needs(Ipvlan(), "CONFIG_IPVLAN")
    kernel.add_link(LinkSpec("i0"), Ipvlan(), parent="up0")

    with pytest.raises(Conflict, match="'up0' carries ipvlan links and cannot carry macvlan ones too"):
        kernel.add_link(LinkSpec("m0"), Macvlan(), parent="up0")


def test_a_vlan_has_its_id_once_on_a_parent(
    host: Any, kernel: LinuxKernel, needs: Callable[..., None]
) -> None:
    needs(Vlan(1), "CONFIG_VLAN_8021Q")

    kernel.add_link(LinkSpec("up0.10", alias="a", up=True), Vlan(10), parent="up0")

    link = host.links()["up0.10"]
    assert (data(link)["id"], link["link"], link["ifalias"]) == (10, "up0", "a")
    read = kernel.link("up0.10")
    assert read is not None
    assert read.settings == Vlan(10)
    with pytest.raises(AlreadyExists, match="VLAN '10 of up0' already exists"):
        kernel.add_link(LinkSpec("other"), Vlan(10), parent="up0")


def test_a_dummy_sits_on_nothing(host: Any, kernel: LinuxKernel, needs: Callable[..., None]) -> None:
    needs(Dummy(), "CONFIG_DUMMY")

    kernel.add_link(LinkSpec("d0", MAC, 1400, alias="a", up=True), Dummy())

    link = host.links()["d0"]
    assert (link["linkinfo"]["info_kind"], link["address"], link["mtu"]) == ("dummy", MAC, 1400)
    read = kernel.link("d0")
    assert read is not None
    assert (read.settings, read.parent_ifindex) == (Dummy(), 0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Ipvlan(), "no ipvlan links (try `modprobe ipvlan`)"),
        (Vlan(10), "no vlan links (try `modprobe 8021q`)"),
        (Dummy(), "no dummy links (try `modprobe dummy`)"),
    ],
)
def test_a_kind_that_the_kernel_has_not_is_named(
    kernel: LinuxKernel, settings: LinkSettings, words: str
) -> None:
    try:
        kernel.add_link(LinkSpec("x0"), settings, parent="" if isinstance(settings, (Dummy, Vrf)) else "up0")
    except Unsupported as exc:
        assert words in str(exc)
    else:
        pytest.skip("this kernel has that kind")


def test_a_vrf_routes_its_ports_by_its_table(
    host: Any, kernel: LinuxKernel, needs: Callable[..., None]
) -> None:
    needs(Vrf(1), "CONFIG_NET_VRF")

    kernel.add_link(LinkSpec("v0", up=True), Vrf(1000))
    kernel.set_link("up0", master="v0")

    link = host.links()["v0"]
    assert (link["linkinfo"]["info_kind"], data(link)["table"]) == ("vrf", 1000)
    read = kernel.link("v0")
    assert read is not None
    assert read.settings == Vrf(1000)
    assert host.links()["up0"]["master"] == "v0"


def test_a_kind_that_this_kernel_lacks_is_named_with_its_module(kernel: LinuxKernel) -> None:
    try:
        kernel.add_link(LinkSpec("v0"), Vrf(1000))
    except Unsupported as exc:
        assert str(exc) == "this kernel has no vrf links (try `modprobe vrf`)"
    else:
        pytest.skip("this kernel has CONFIG_NET_VRF, so nothing is missing")
