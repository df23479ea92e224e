"""Type ``vrf`` in the kernel, where it has VRFs, and what is told where it has none."""

from __future__ import annotations

from typing import Any

import pytest

from dovetail.errors import Unsupported
from dovetail.kernel.protocol import LinkSpec, Vrf

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize("chains", ["daemon", "in process"], indirect=True)
VRF: dict[str, Any] = {"type": "vrf", "vrfname": "blue"}


def has_vrf(chains: Any) -> bool:
    path = chains.netns("c2")
    with chains.engine.kernel.open_netns(path) as netns, chains.engine.kernel.inside(netns) as inner:
        try:
            inner.add_link(LinkSpec("probe"), Vrf(7))
        except Unsupported:
            return False
        inner.delete_links(["probe"])
    return True


@BOTH
def test_an_interface_goes_into_the_vrf_with_all_that_it_has(chains: Any) -> None:
    if not has_vrf(chains):
        pytest.skip("the kernel has no vrf links")
    result = chains.wire("c1")

    status, said = chains.call("ADD", VRF, result)

    assert status == 0, said
    assert chains.link("c1")["master"] == "blue"
    assert chains.link("c1", "blue")["linkinfo"]["info_data"]["table"] == 1
    addresses = {a["local"] for a in chains.ip("c1", "addr", "show", "eth0")[0]["addr_info"]}
    assert addresses >= {"10.50.0.2", "fd50::2"}
    for family in ("-4", "-6"):
        shown = chains.ip("c1", family, "route", "show", "table", "1")
        assert "default" in {route["dst"] for route in shown}
    chains.inside("c1", "ping", "-c1", "-W2", "-I", "blue", "10.50.0.1")
    chains.inside("c1", "ping", "-c1", "-W2", "-I", "blue", "fd50::1")
    assert chains.call("CHECK", VRF, said) == (0, None)
    assert [chains.call("DEL", VRF, said) for _ in range(2)] == [(0, None)] * 2
    assert "blue" not in chains.host.links(chains.netns("c1"))
    assert "master" not in chains.link("c1")


@BOTH
def test_a_kernel_without_vrfs_is_told_and_nothing_is_changed(chains: Any) -> None:
    if has_vrf(chains):
        pytest.skip("the kernel has vrf links")
    result = chains.wire("c1")
    before = chains.ip("c1", "addr"), chains.ip("c1", "route", "show", "table", "all")

    status, said = chains.call("ADD", VRF, result)

    assert (status, said["code"]) == (1, 2)
    assert said["msg"] == "this kernel has no vrf links"
    assert (chains.ip("c1", "addr"), chains.ip("c1", "route", "show", "table", "all")) == before
    assert chains.parts() == []
    assert chains.call("DEL", VRF, result) == (0, None)
