"""The ``ipam`` section of type ``dhcp``."""

from __future__ import annotations

from typing import Any

import pytest

from dovetail.cni.errors import INVALID_CONFIG, CniError
from dovetail.cni.folded import Folded
from dovetail.cni.plugins.dhcp_config import lease_request
from dovetail.ipam.dhcp.lease import LeaseRequest
from dovetail.ipam.dhcp.options import DEFAULT_REQUEST


def read(args: dict[str, str] | None = None, **ipam: Any) -> LeaseRequest:
    config = Folded({"ipam": {"type": "dhcp", **ipam}})
    return lease_request(config.object("ipam"), container="c1", network="net", ifname="eth0", args=args or {})


def test_a_section_with_nothing_but_its_type_asks_for_what_a_container_needs() -> None:
    assert read() == LeaseRequest(container="c1", network="net", ifname="eth0", request=DEFAULT_REQUEST)


def test_classless_routes_are_asked_for_before_routers_as_the_rfc_wants() -> None:
    assert DEFAULT_REQUEST.index(121) < min(DEFAULT_REQUEST.index(3), DEFAULT_REQUEST.index(33))


def test_the_example_of_the_reference_plugin_is_read() -> None:
    found = read(
        {"K8S_POD_NAME": "web-0"},
        daemonSocketPath="/run/cni/dhcp.sock",
        request=[{"skipDefault": False}],
        provide=[{"option": "host-name", "fromArg": "K8S_POD_NAME"}],
    )

    assert found.request == DEFAULT_REQUEST
    assert found.provide == {12: b"web-0"}


def test_the_key_and_the_client_id_are_the_go_plugins() -> None:
    assert (read().key, read().client_id) == ("c1/net/eth0", b"c1/net/eth0")


@pytest.mark.parametrize(
    ("option", "number"),
    [
        ("dhcp-client-identifier", 61),
        ("subnet-mask", 1),
        ("routers", 3),
        ("host-name", 12),
        ("user-class", 77),
        ("vendor-class-identifier", 60),
        ("12", 12),
        ("254", 254),
        (121, 121),
        (42.0, 42),
    ],
)
def test_an_option_is_a_name_or_a_number(option, number) -> None:
    assert read(provide=[{"option": option, "value": "x"}]).provide == {number: b"x"}


def test_request_adds_to_what_is_asked_for_and_each_stands_there_once() -> None:
    found = read(request=[{"option": "ntp-servers"}, {"option": "routers"}, {"option": "42"}])

    assert found.request == (*DEFAULT_REQUEST, 42)


def test_skip_default_leaves_what_is_named() -> None:
    assert read(request=[{"skipDefault": True, "option": "routers"}, {"option": 1}]).request == (3, 1)
    assert read(request=[{"skipDefault": True}]).request == ()


def test_an_argument_of_the_runtime_counts_before_a_value() -> None:
    provide = [{"option": 12, "value": "fallback", "fromArg": "NAME"}]

    assert read({"NAME": "given"}, provide=provide).provide == {12: b"given"}
    assert read({}, provide=provide).provide == {12: b"fallback"}


def test_an_option_without_a_value_is_left_out() -> None:
    assert read(provide=[{"option": 12, "fromArg": "NAME"}]).provide == {}


def test_our_own_keys_and_the_metric_are_read() -> None:
    found = read(priority=100, ipv6=True, broadcast=True)

    assert (found.priority, found.ipv6, found.broadcast) == (100, True, True)


def test_keys_are_read_in_any_case() -> None:
    assert read(Request=[{"SkipDefault": True, "Option": "routers"}]).request == (3,)


@pytest.mark.parametrize(
    ("ipam", "sentence"),
    [
        (
            {"provide": [{"option": "hostname", "value": "x"}]},
            "$.ipam.provide[0].option: 'hostname' is no DHCP option",
        ),
        ({"provide": [{"value": "x"}]}, "$.ipam.provide[0].option: '' is no DHCP option"),
        ({"provide": [{"option": "0", "value": "x"}]}, "$.ipam.provide[0].option: '0' is no DHCP option"),
        ({"provide": [{"option": 255, "value": "x"}]}, "$.ipam.provide[0].option: '255' is no DHCP option"),
        ({"provide": [{"option": "000999", "value": "x"}]}, "'000999' is no DHCP option"),
        ({"provide": [{"option": -1, "value": "x"}]}, "$.ipam.provide[0].option: '-1' is no DHCP option"),
        ({"provide": [{"option": "²", "value": "x"}]}, "$.ipam.provide[0].option: '²' is no DHCP option"),
        ({"provide": [{"option": "9" * 5000, "value": "x"}]}, "is no DHCP option"),
        ({"provide": [{"option": 1.5, "value": "x"}]}, "$.ipam.provide[0].option: expected a whole number"),
        ({"provide": [{"option": [], "value": "x"}]}, "$.ipam.provide[0].option: expected a whole number"),
        (
            {"provide": [{}, {"option": 53, "value": "x"}][1:]},
            "$.ipam.provide[0].option: option 53 is the protocol's own, it cannot be provided",
        ),
        (
            {"provide": [{"option": 12, "value": "é" * 128}]},
            "$.ipam.provide[0].value: the value of option 12 has 256 bytes, 255 are the most",
        ),
        ({"provide": {"option": 12}}, "$.ipam.provide: expected a list"),
        ({"provide": ["host-name"]}, "$.ipam.provide[0]: expected an object"),
        ({"request": [{"option": "x"}]}, "$.ipam.request[0].option: 'x' is no DHCP option"),
        ({"request": [{"skipDefault": "yes"}]}, "$.ipam.request[0].skipDefault: expected true or false"),
        ({"priority": -1}, "$.ipam.priority: -1 is no metric"),
        ({"priority": 2**32}, "$.ipam.priority: 4294967296 is no metric"),
        ({"ipv6": 1}, "$.ipam.ipv6: expected true or false"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(ipam, sentence) -> None:
    with pytest.raises(CniError) as caught:
        read(**ipam)

    assert caught.value.code == INVALID_CONFIG
    assert sentence in caught.value.msg


def test_a_long_argument_of_the_runtime_is_refused_by_its_name() -> None:
    with pytest.raises(CniError, match="CNI_ARGS NAME: the value of option 12 has 300 bytes"):
        read({"NAME": "x" * 300}, provide=[{"option": 12, "fromArg": "NAME"}])


def test_the_error_says_what_to_write() -> None:
    with pytest.raises(CniError) as caught:
        read(provide=[{"option": "hostname", "value": "x"}])

    assert "host-name" in caught.value.details
    assert "host-name" not in caught.value.msg
