from __future__ import annotations

import pytest

from dovetail.errors import InvalidArgument
from dovetail.model.sysctls import check_sysctls, namespace_path, parse_sysctls, sysctl_path


def test_settings_are_written_as_docker_writes_them_and_reach_the_interface_by_its_name() -> None:
    sysctls = parse_sysctls(
        "net.ipv4.conf.IFNAME.forwarding=0, net.ipv6.neigh.IFNAME.base_reachable_time_ms=5000"
    )

    assert sysctls == {
        "net.ipv4.conf.IFNAME.forwarding": "0",
        "net.ipv6.neigh.IFNAME.base_reachable_time_ms": "5000",
    }
    assert sysctl_path("net.ipv4.conf.IFNAME.forwarding", "eth0.10") == "net/ipv4/conf/eth0.10/forwarding"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "net.ipv4.conf.IFNAME.forwarding",
        "net.ipv4.conf.IFNAME.forwarding=",
        "net.ipv4.ip_forward=1",
        "net.ipv4.conf.all.forwarding=1",
        "net.ipv4.conf.eth0.forwarding=1",
        "net.ipv4.conf.IFNAME.../../../kernel/core_pattern=|x",
        "net.ipv4.conf.IFNAME./core_pattern=1",
        "net.core.conf.IFNAME.x=1",
        "net.ipv4.route.IFNAME.flush=1",
        "kernel.core_pattern=|/bin/sh",
        "net.ipv4.conf.IFNAME.forwarding=0\nnet.ipv4.ip_forward=1",
        "net.ipv4.conf.IFNAME.forwarding=" + "1" * 129,
        "NET.ipv4.conf.IFNAME.forwarding=1",
    ],
)
def test_what_is_not_of_the_interface_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_sysctls(text)


def test_a_dictionary_is_checked_alike() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_sysctls({"net.ipv4.ip_forward": "1"}, where="$.sysctls")

    assert caught.value.where == "$.sysctls"


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.core.somaxconn", "net/core/somaxconn"),
        ("net/core/somaxconn", "net/core/somaxconn"),
        ("net.ipv4.conf.IFNAME.arp_filter", "net/ipv4/conf/eth0.10/arp_filter"),
        ("net/ipv4/conf/IFNAME/arp_filter", "net/ipv4/conf/eth0.10/arp_filter"),
        ("net/ipv4/conf/br0.7/arp_filter", "net/ipv4/conf/br0.7/arp_filter"),
        ("net.ipv4.conf.br0/7.arp_filter", "net/ipv4/conf/br0.7/arp_filter"),
    ],
)
def test_the_separator_that_comes_first_is_the_separator(key: str, path: str) -> None:
    assert namespace_path(key, "eth0.10") == path
