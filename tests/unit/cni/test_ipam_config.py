"""What a configuration asks of host-local and static: keys, defaults, who overrides whom, and what is refused where."""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest

from dovetail.cni.errors import CniError, cni_error
from dovetail.cni.folded import Folded
from dovetail.cni.plugins.ipam_config import (
    HostLocalConfig,
    StaticConfig,
    data_dir,
    read_host_local,
    read_static,
    static_differences,
)
from dovetail.errors import DovetailError
from dovetail.model.allocated import Allocated
from dovetail.model.attachment import DNS


def host_local(
    ipam: Any, *, version: str = "1.0.0", args: dict[str, str] | None = None, **rest: Any
) -> HostLocalConfig:
    return read_host_local(Folded({"ipam": ipam, **rest}), version=version, args=args or {})


def static(
    ipam: Any, *, version: str = "1.0.0", args: dict[str, str] | None = None, **rest: Any
) -> StaticConfig:
    return read_static(Folded({"ipam": ipam, **rest}), version=version, args=args or {})


def sets(config: HostLocalConfig) -> list[str]:
    return [str(found) for found in config.range_sets]


def refusal(call: Any) -> tuple[int, str]:
    with pytest.raises((CniError, DovetailError)) as caught:
        call()
    error = cni_error(caught.value)
    return error.code, error.msg


SUBNET = {"subnet": "10.0.0.0/29"}


def test_the_keys_of_a_range_in_any_case() -> None:
    config = host_local(
        {
            "Subnet": "10.0.0.0/24",
            "RANGESTART": "10.0.0.7",
            "rangeend": "10.0.0.9",
            "GateWay": "10.0.0.254",
            "DATADIR": "/d",
        }
    )

    assert sets(config) == ["10.0.0.7-10.0.0.9"]
    assert str(config.range_sets[0].ranges[0].gateway) == "10.0.0.254"
    assert config.data_dir == "/d"


def test_the_runtimes_ranges_come_first_and_the_old_key_before_the_new() -> None:
    config = host_local(
        {
            **SUBNET,
            "ranges": [[{"subnet": "fd00::/64"}], [{"subnet": "10.2.0.0/30"}, {"subnet": "10.3.0.0/30"}]],
        },
        runtimeConfig={"ipRanges": [[{"Subnet": "10.1.0.0/24", "RangeStart": "10.1.0.9", "RangeEnd": ""}]]},
    )

    assert sets(config) == [
        "10.1.0.9-10.1.0.254",
        "10.0.0.1-10.0.0.6",
        "fd00::1-fd00::ffff:ffff:ffff:ffff",
        "10.2.0.1-10.2.0.2,10.3.0.1-10.3.0.2",
    ]


def test_what_is_left_out_has_the_reference_plugins_defaults() -> None:
    config = host_local(SUBNET)

    assert config == HostLocalConfig(data_dir="/var/lib/cni/networks", range_sets=config.range_sets)
    assert data_dir(Folded({"ipam": {"subnet": "nonsense"}})) == "/var/lib/cni/networks"


def test_routes_lose_their_host_bits_and_have_all_of_1_1_0() -> None:
    routes = [
        {"dst": "10.9.1.1/8", "gw": "10.0.0.1"},
        {"dst": "::/0", "mtu": 1400, "priority": 5, "scope": 0},
    ]

    found = host_local({**SUBNET, "routes": routes}).routes
    assert [(str(one.destination), one.gateway) for one in found] == [
        ("10.0.0.0/8", ip_address("10.0.0.1")),
        ("::/0", None),
    ]
    assert (found[1].mtu, found[1].priority, found[1].scope) == (1400, 5, 0)


def test_resolv_conf_is_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("nameserver 1.1.1.1\nsearch a\n", encoding="ascii")
    (tmp_path / "link").symlink_to("real")

    found = host_local({**SUBNET, "resolvConf": str(tmp_path / "link")}).dns

    assert found == DNS(nameservers=("1.1.1.1",), search=("a",))


@pytest.mark.parametrize("kind", ["missing", "fifo", "directory", "huge", "loop"])
def test_a_resolv_conf_that_cannot_be_read_is_an_io_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "resolv.conf"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "huge":
        path.write_bytes(b"#" * (2 << 20))
    elif kind == "loop":
        path.symlink_to(path)

    code, message = refusal(lambda: host_local({**SUBNET, "resolvConf": str(path)}))

    assert code == 5
    assert message.startswith("$.ipam.resolvConf: ")
    assert str(path) in message


@pytest.mark.parametrize(
    ("runtime", "args", "variable", "expected"),
    [
        ([], [], "", ""),
        ([], [], "10.0.0.3", "10.0.0.3"),
        ([], [], "10.0.0.3/24", "10.0.0.3"),
        ([], ["10.0.0.4"], "", "10.0.0.4"),
        (["10.0.0.5/24"], [], "", "10.0.0.5"),
        (["10.0.0.5"], ["10.0.0.4"], "10.0.0.3", "10.0.0.5"),
        ([], ["10.0.0.4"], "10.0.0.3", "10.0.0.4"),
        (["10.0.0.5"], ["10.0.0.5"], "10.0.0.5", "10.0.0.5"),
        (["fd00::5"], [], "10.0.0.3", "fd00::5 10.0.0.3"),
        (["fd00::5"], ["fd00::6", "10.0.0.4"], "10.0.0.3", "fd00::5 10.0.0.4"),
        (["10.0.0.5", "10.0.0.6"], [], "", "10.0.0.5 10.0.0.6"),
        (["10.0.0.5"], ["10.9.0.1"], "", "10.0.0.5"),
        ([], ["10.9.0.1"], "", "10.9.0.1"),
        (["fd00::5"], ["10.9.0.1"], "", "fd00::5 10.9.0.1"),
        (["10.0.0.5"], ["10.7.0.5"], "", "10.0.0.5 10.7.0.5"),
        (["::ffff:10.0.0.5"], [], "", "10.0.0.5"),
    ],
)
def test_the_runtime_is_asked_before_args_and_args_before_the_variable(
    runtime: list[str], args: list[str], variable: str, expected: str
) -> None:
    ranges = [[SUBNET], [{"subnet": "fd00::/64"}], [{"subnet": "10.7.0.0/24"}]]
    document = {"ipam": {"ranges": ranges}, "runtimeConfig": {"ips": runtime}, "args": {"cni": {"ips": args}}}

    found = read_host_local(Folded(document), version="1.0.0", args={"IP": variable})

    assert " ".join(str(one) for one in found.requested) == expected


@pytest.mark.parametrize(
    ("ipam", "message"),
    [
        ({}, "no IP ranges specified"),
        ({"ranges": []}, "no IP ranges specified"),
        ({"rangeStart": "10.0.0.1"}, "no IP ranges specified"),
        ({"subnet": ""}, "$.ipam.subnet: invalid range set 0: '' has no prefix length"),
        ({"subnet": "x/8"}, "$.ipam.subnet: invalid range set 0: 'x/8' is not a CIDR"),
        ({"subnet": "10.0.0.1/24"}, "$.ipam.subnet: invalid range set 0: '10.0.0.1/24' has host bits set"),
        ({"subnet": 5}, "$.ipam.subnet: expected a string, got int"),
        (
            {"subnet": "10.0.0.0/31"},
            "$.ipam.subnet: invalid range set 0: Network 10.0.0.0/31 too small to allocate from",
        ),
        (
            {"subnet": "10.0.0.0/24", "gateway": "x"},
            "$.ipam.gateway: invalid range set 0: 'x' is not an IP address",
        ),
        (
            {**SUBNET, "ranges": [[{}]]},
            "$.ipam.ranges[0][0].subnet: invalid range set 1: '' has no prefix length",
        ),
        (
            {"ranges": [[SUBNET, {"subnet": "10.1.0.0/24", "rangeEnd": "10.2.0.0"}]]},
            "$.ipam.ranges[0][1].rangeEnd: invalid range set 0: RangeEnd 10.2.0.0 not in network 10.1.0.0/24",
        ),
        ({"ranges": [[]]}, "$.ipam.ranges[0]: invalid range set 0: empty range set"),
        ({"ranges": [None]}, "$.ipam.ranges[0]: invalid range set 0: empty range set"),
        ({"ranges": [5]}, "$.ipam.ranges[0]: expected a list, got int"),
        ({"ranges": [[5]]}, "$.ipam.ranges[0][0]: expected an object, got int"),
        ({"ranges": "x"}, "$.ipam.ranges: expected a list, got str"),
        (
            {"ranges": [[SUBNET, {"subnet": "fd00::/64"}]]},
            "$.ipam.ranges[0]: invalid range set 0: mixed address families",
        ),
        ({**SUBNET, "ranges": [[SUBNET]]}, "$.ipam.ranges: range set 0 overlaps with 1"),
        ({**SUBNET, "routes": [{}]}, "$.ipam.routes[0]: '' has no prefix length"),
        ({**SUBNET, "routes": [{"dst": "x"}]}, "$.ipam.routes[0]: 'x' has no prefix length"),
        ({**SUBNET, "routes": [{"dst": "::/0", "gw": "x"}]}, "$.ipam.routes[0]: 'x' is not an IP address"),
        ({**SUBNET, "resolvConf": "/a\0b"}, "$.ipam.resolvConf: '/a\\x00b' cannot be a path"),
        ({**SUBNET, "resolvConf": "a"}, "$.ipam.resolvConf: 'a' is not an absolute path"),
        ({**SUBNET, "dataDir": 5}, "$.ipam.dataDir: expected a string, got int"),
        (None, "IPAM config missing 'ipam' key"),
        (5, "$.ipam: expected an object, got int"),
    ],
)
def test_a_host_local_configuration_that_cannot_be_says_where(ipam: Any, message: str) -> None:
    assert refusal(lambda: host_local(ipam)) == (7, message)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"IP": "x"}, "CNI_ARGS: IP: 'x' is not an IP address"),
        ({"IP": "10.0.0.3,10.0.0.4"}, "CNI_ARGS: IP: '10.0.0.3,10.0.0.4' is not an IP address"),
        ({"IP": "10.0.0.3", "X": "1"}, 'ARGS: unknown args ["X=1"]'),
        ({"GATEWAY": "10.0.0.1"}, 'ARGS: unknown args ["GATEWAY=10.0.0.1"]'),
    ],
)
def test_variables_that_cannot_be_are_code_4(args: dict[str, str], message: str) -> None:
    assert refusal(lambda: host_local(SUBNET, args=args)) == (4, message)
    assert host_local(SUBNET, args={"X": "1", "IgnoreUnknown": "1"}).requested == ()


@pytest.mark.parametrize("ips", [["zz"], [""]])
def test_addresses_asked_for_that_are_none_are_refused_with_their_place(ips: list[str]) -> None:
    code, message = refusal(lambda: host_local(SUBNET, runtimeConfig={"ips": ips}))

    assert (code, message) == (7, f"$.runtimeConfig.ips[0]: {ips[0]!r} is not an IP address")


@pytest.mark.parametrize("text", ["fe80::5%eth0", "fe80::5%eth0/64"])
def test_a_zone_is_part_of_no_address_asked_for(text: str) -> None:
    code, message = refusal(lambda: host_local({"subnet": "fe80::/64"}, runtimeConfig={"ips": [text]}))

    assert (code, message) == (
        7,
        "$.runtimeConfig.ips[0]: 'fe80::5%eth0' has a zone, which is not allowed here",
    )


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_old_versions_have_one_address_of_a_family(version: str) -> None:
    two = {**SUBNET, "ranges": [[{"subnet": "10.1.0.0/24"}]]}
    both = {**SUBNET, "ranges": [[{"subnet": "fd00::/64"}]]}
    addresses = [{"address": "10.0.0.2/24"}, {"address": "10.1.0.2/24"}]
    message = f"$.cniVersion: CNI version {version} does not support more than 1 address per family"

    assert len(host_local(both, version=version).range_sets) == 2
    assert refusal(lambda: host_local(two, version=version)) == (7, message)
    assert refusal(lambda: static({"addresses": addresses}, version=version)) == (7, message)
    assert len(host_local(two, version="0.3.0").range_sets) == 2


def given(config: StaticConfig) -> list[tuple[str, str]]:
    return [(str(one.address), str(one.gateway or "")) for one in config.addresses]


FIVE = {"addresses": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}]}


def test_static_gives_what_is_written() -> None:
    config = static(
        {
            "Addresses": [*FIVE["addresses"], {"ADDRESS": "fd00::5/64"}],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dns": {"nameservers": ["1.1.1.1"], "domain": "d", "search": ["s"], "options": ["o"]},
        }
    )

    assert given(config) == [("10.0.0.5/24", "10.0.0.1"), ("fd00::5/64", "")]
    assert config.dns == DNS(nameservers=("1.1.1.1",), domain="d", search=("s",), options=("o",))
    assert len(config.routes) == 1
    assert static({}) == StaticConfig()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"IP": "10.0.0.7/24"}, [("10.0.0.7/24", "")]),
        ({"IP": "10.0.0.7/24", "GATEWAY": "10.0.0.9"}, [("10.0.0.7/24", "10.0.0.9")]),
        ({"IP": "10.0.0.7/24", "GATEWAY": "10.9.0.9"}, [("10.0.0.7/24", "")]),
        ({"IP": "10.0.0.7/24", "GATEWAY": "10.0.0.1,10.0.0.2"}, [("10.0.0.7/24", "10.0.0.2")]),
        (
            {"IP": "10.0.0.7/24, fd00::1/64", "GATEWAY": "10.0.0.1,fd00::9"},
            [("10.0.0.7/24", "10.0.0.1"), ("fd00::1/64", "fd00::9")],
        ),
        ({"GATEWAY": "10.0.0.9"}, []),
        ({"IP": ""}, []),
    ],
)
def test_the_variables_add_to_what_is_written(
    variables: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    assert given(static(FIVE, args=variables)) == [("10.0.0.5/24", "10.0.0.1"), *expected]
    assert given(static({}, args=variables)) == expected


def test_the_runtime_and_args_replace_all_addresses_and_keep_routes_and_dns() -> None:
    ipam = {**FIVE, "routes": [{"dst": "0.0.0.0/0"}], "dns": {"domain": "d"}}
    variables = {"IP": "10.0.0.7/24", "GATEWAY": "10.0.0.77"}
    document: dict[str, Any] = {"ipam": ipam, "args": {"cni": {"ips": ["10.0.0.8/24"]}}}

    by_args = read_static(Folded(document), version="1.0.0", args=variables)
    document["runtimeConfig"] = {"ips": ["10.0.0.9/24", "fd00::9/64"]}
    by_runtime = read_static(Folded(document), version="1.0.0", args=variables)

    assert given(by_args) == [("10.0.0.8/24", "")]
    assert given(by_runtime) == [("10.0.0.9/24", ""), ("fd00::9/64", "")]
    assert (len(by_runtime.routes), by_runtime.dns.domain) == (1, "d")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ({}, "$.ipam.addresses[0].address: '' has no prefix length"),
        ({"address": "10.0.0.5"}, "$.ipam.addresses[0].address: '10.0.0.5' has no prefix length"),
        ({"address": "x/8"}, "$.ipam.addresses[0].address: 'x/8' is not an address with a prefix length"),
        ({"address": "0.0.0.0/0"}, "$.ipam.addresses[0].address: '0.0.0.0/0' is no address for an interface"),
        (
            {"address": "ff02::1/64"},
            "$.ipam.addresses[0].address: 'ff02::1/64' is no address for an interface",
        ),
        (
            {"address": "::ffff:10.0.0.1/120"},
            "$.ipam.addresses[0].address: '::ffff:10.0.0.1/120' is an IPv4 address in IPv6's spelling, or has a zone",
        ),
        (
            {"address": "10.0.0.5/24", "gateway": "x"},
            "$.ipam.addresses[0].gateway: 'x' is not an IP address",
        ),
        (
            {"address": "10.0.0.5/24", "gateway": "fd00::1"},
            "$.ipam.addresses[0].gateway: gateway fd00::1 is of another family than 10.0.0.5/24",
        ),
    ],
)
def test_a_static_address_that_cannot_be_says_where(address: dict[str, str], message: str) -> None:
    assert refusal(lambda: static({"addresses": [address]})) == (7, message)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"IP": "10.0.0.7"}, "CNI_ARGS: IP: '10.0.0.7' has no prefix length (write it as 10.0.0.2/24)"),
        ({"IP": "10.0.0.7/24,"}, "CNI_ARGS: IP: '' has no prefix length (write it as 10.0.0.2/24)"),
        ({"IP": "10.0.0.7/24", "GATEWAY": "x"}, "CNI_ARGS: GATEWAY: 'x' is not an IP address"),
        ({"FOO": "1", "BAR": "2"}, 'ARGS: unknown args ["FOO=1" "BAR=2"]'),
    ],
)
def test_static_variables_that_cannot_be_are_code_4(variables: dict[str, str], message: str) -> None:
    assert refusal(lambda: static(FIVE, args=variables)) == (4, message)


def test_static_refuses_an_address_twice_and_others_of_the_runtime_with_their_place() -> None:
    twice = {"addresses": [{"address": "10.0.0.5/24"}, {"address": "10.0.0.5/16"}]}

    assert refusal(lambda: static(twice)) == (7, "$.ipam.addresses: 10.0.0.5 is there 2 times")
    assert refusal(lambda: static(FIVE, runtimeConfig={"ips": ["10.0.0.8"]})) == (
        7,
        "$.runtimeConfig.ips[0]: '10.0.0.8' has no prefix length",
    )
    assert refusal(lambda: static(None)) == (7, "IPAM config missing 'ipam' key")


def test_static_takes_any_gateway_for_an_address_without_one() -> None:
    config = static({"addresses": [{"address": "10.0.0.5/24"}]})
    filled_in = Allocated(address=ip_interface("10.0.0.5/24"), gateway=ip_address("10.0.0.1"))

    assert static_differences(config, [filled_in]) == []
    assert static_differences(config, []) == [
        "static: Failed to match addr 10.0.0.5/24 with gateway none in prevResult"
    ]


def test_static_says_which_address_a_result_has_not() -> None:
    config = static(FIVE)
    same = Allocated(address=ip_interface("10.0.0.5/24"), gateway=ip_address("10.0.0.1"))
    other = Allocated(address=ip_interface("10.0.0.5/24"), gateway=ip_address("10.0.0.2"))

    assert static_differences(config, [other, same]) == []
    assert static_differences(config, [other]) == [
        "static: Failed to match addr 10.0.0.5/24 with gateway 10.0.0.1 in prevResult"
    ]
