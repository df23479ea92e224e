"""Results in every wire version: written, read back, and converted from each to each."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec
import pytest

from dovetail.cni.errors import CniError
from dovetail.cni.folded import Folded
from dovetail.cni.spec import registry
from dovetail.cni.spec.registry import SUPPORTED, convert, limited, number
from dovetail.cni.spec.result import Interface, from_attachment, to_attachment
from dovetail.model.attachment import DNS, Attachment, HostInterface, Route
from dovetail.model.mac import Mac

WHOLE = Attachment(
    ifname="eth0",
    mac=Mac("02:00:00:00:00:02"),
    mtu=1400,
    sandbox="/run/netns/c1",
    addresses=(ip_interface("10.88.0.2/24"), ip_interface("fd88::2/64")),
    gateways=(ip_address("10.88.0.1"), ip_address("fd88::1")),
    routes=(
        Route(destination=ip_network("0.0.0.0/0"), gateway=ip_address("10.88.0.1"), mtu=1380, scope=0),
        Route(destination=ip_network("fd99::/64")),
    ),
    dns=DNS(nameservers=("9.9.9.9",), search=("example.org",)),
    host_interfaces=(
        HostInterface(name="br0", mac=Mac("02:00:00:00:00:01"), mtu=1400),
        HostInterface(name="veth0"),
    ),
)
PAIRS = [(have, want) for have in SUPPORTED for want in SUPPORTED]


def render(attachment: Attachment, version: str) -> dict[str, Any]:
    return registry.render(from_attachment(attachment), version)


def parse(document: Folded, version: str) -> Attachment:
    return to_attachment(registry.parse(document, version))


def folded(document: Any) -> Folded:
    return Folded(json.loads(json.dumps(document)))


def test_the_newest_version_says_all_of_an_attachment() -> None:
    assert parse(folded(render(WHOLE, "1.1.0")), "0.1.0") == WHOLE


@pytest.mark.parametrize(("have", "want"), PAIRS)
def test_a_result_converts_from_each_version_to_each(have: str, want: str) -> None:
    converted = convert(folded(render(WHOLE, have)), have, want)

    assert converted["cniVersion"] == want
    assert parse(folded(converted), want).addresses == WHOLE.addresses
    assert parse(folded(converted), want).gateways == WHOLE.gateways
    assert parse(folded(converted), want).dns == WHOLE.dns
    destinations = [route.destination for route in parse(folded(converted), want).routes]
    assert destinations == [route.destination for route in WHOLE.routes]
    if min(number(have), number(want)) >= (0, 3, 0):
        names = [interface["name"] for interface in converted["interfaces"]]
        assert names == ["br0", "veth0", "eth0"]
        assert {ip["interface"] for ip in converted["ips"]} == {2}


@pytest.mark.parametrize(("have", "want"), PAIRS)
def test_a_result_of_an_ipam_plugin_stays_without_interfaces(have: str, want: str) -> None:
    bare = Attachment(ifname="", addresses=WHOLE.addresses)

    converted = convert(folded(render(bare, have)), have, want)

    assert "interfaces" not in converted
    assert not any("interface" in ip for ip in converted.get("ips", []))


@pytest.mark.parametrize("version", [v for v in SUPPORTED if number(v) >= (0, 3, 0)])
def test_the_family_of_an_address_is_named_before_1_0_0_only(version: str) -> None:
    families = [ip.get("version") for ip in render(WHOLE, version)["ips"]]

    assert families == (["4", "6"] if number(version) < (1, 0, 0) else [None, None])


@pytest.mark.parametrize("version", SUPPORTED)
def test_empty_settings_of_names_are_printed_before_1_0_0_only(version: str) -> None:
    bare = Attachment(ifname="", addresses=WHOLE.addresses)

    assert ("dns" in render(bare, version)) == (number(version) < (1, 0, 0))


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_the_oldest_versions_cannot_say_a_result_without_addresses(version: str) -> None:
    with pytest.raises(CniError, match="no valid IP addresses") as caught:
        convert(folded(render(Attachment(ifname="eth0"), "1.0.0")), "1.0.0", version)
    assert caught.value.code == 7


def test_a_result_that_names_no_version_is_in_the_configurations() -> None:
    document = render(WHOLE, "0.2.0")
    del document["cniVersion"]

    assert parse(folded(document), "0.2.0").addresses == WHOLE.addresses


def test_keys_match_in_any_case_and_unknown_ones_are_passed_over() -> None:
    document = {"CNIVersion": "1.0.0", "IPs": [{"Address": "10.0.0.2/8"}], "Extra": {"a": 1}}

    assert parse(folded(document), "1.0.0").addresses == (ip_interface("10.0.0.2/8"),)


def test_the_sandboxs_interface_is_the_one_with_the_addresses() -> None:
    document = {
        "cniVersion": "1.0.0",
        "interfaces": [
            {"name": "br0"},
            {"name": "net1", "sandbox": "/run/netns/a"},
            {"name": "lo", "sandbox": "/run/netns/a"},
        ],
        "ips": [{"address": "10.0.0.2/8", "interface": 1}],
    }

    found = parse(folded(document), "1.0.0")

    assert (found.ifname, [host.name for host in found.host_interfaces]) == ("net1", ["br0"])


def test_a_destination_with_host_bits_is_taken_as_its_network() -> None:
    document = {"cniVersion": "1.0.0", "routes": [{"dst": "10.1.2.3/8", "gw": None}]}

    assert parse(folded(document), "1.0.0").routes == (Route(destination=ip_network("10.0.0.0/8")),)


@pytest.mark.parametrize(
    "document",
    [
        {"ips": [{"address": "10.0.0.2"}]},
        {"ips": [{"address": "10.0.0.2/8", "gateway": "nowhere"}]},
        {"ips": [{"address": "10.0.0.2/8", "interface": 1}], "interfaces": [{"name": "eth0"}]},
        {"ips": [{"address": "10.0.0.2/8", "interface": -1}], "interfaces": [{"name": "eth0"}]},
        {"routes": [{"dst": "everywhere"}]},
        {"ip4": {"ip": "10.0.0.2/99"}, "cniVersion": "0.2.0"},
    ],
)
def test_what_cannot_be_read_is_code_6_and_names_the_value(document: dict[str, Any]) -> None:
    with pytest.raises(CniError, match="the result cannot be read") as caught:
        parse(folded(document), "1.0.0")
    assert caught.value.code == 6


@pytest.mark.parametrize("document", [{"ips": {}}, {"ips": [1]}, {"interfaces": [{"name": 1}]}])
def test_what_has_the_wrong_form_is_refused_by_its_place(document: dict[str, Any]) -> None:
    with pytest.raises(CniError, match=r"\$"):
        parse(folded(document), "1.0.0")


def test_a_chain_hands_on_all_that_its_version_can_say() -> None:
    document = {
        "cniVersion": "1.1.0",
        "interfaces": [
            {
                "name": "ib0",
                "mac": "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:31:78:f2",
                "mtu": 2044,
            },
            {"name": "eth0", "sandbox": "/run/netns/a", "pciID": "0000:01:00.0", "socketPath": "/run/s"},
            {"name": "eth1", "sandbox": "/run/netns/a"},
        ],
        "ips": [
            {"interface": 1, "address": "10.0.0.2/8", "gateway": "10.0.0.1"},
            {"interface": 2, "address": "10.1.0.2/16", "gateway": "10.1.0.1"},
            {"address": "fd00::2/64"},
        ],
        "routes": [{"dst": "0.0.0.0/0", "mtu": 1400, "advmss": 1360, "priority": 5, "table": 7, "scope": 0}],
        "dns": {"nameservers": ["9.9.9.9"], "domain": "a", "search": ["b"], "options": ["ndots:1"]},
    }

    assert registry.render(registry.parse(folded(document), "0.1.0"), "1.1.0") == document


def test_a_version_nobody_speaks_is_code_1() -> None:
    with pytest.raises(CniError, match="incompatible CNI versions") as caught:
        parse(folded({"cniVersion": "9.0.0"}), "1.0.0")
    assert caught.value.code == 1


@pytest.mark.parametrize("version", SUPPORTED)
def test_what_a_version_leaves_of_a_result_is_what_is_read_of_what_it_wrote(version: str) -> None:
    route = msgspec.structs.replace(WHOLE.routes[0], mtu=1300, priority=7, scope=253)
    attachment = msgspec.structs.replace(WHOLE, routes=(*WHOLE.routes, route))
    interface = Interface(
        name="eth9", mac="02:00:00:00:00:09", socket_path="/run/v", pci_id="0000:00:1f.6", mtu=9
    )
    whole = from_attachment(attachment)
    whole = msgspec.structs.replace(whole, interfaces=(*whole.interfaces, interface))

    assert limited(whole, version) == registry.parse(folded(registry.render(whole, version)), version)
