from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from dovetail.drivers.bridge_options import KNOWN, BridgeOptions, read_intent, read_options
from dovetail.errors import InvalidArgument
from dovetail.model.firewall import FamilyIntent, FirewallIntent
from dovetail.model.network import Network, Subnet

NAT, OPEN = FamilyIntent(), FamilyIntent(mode="nat-unprotected")


def intent(*subnets: str, internal: bool = False, **options: str) -> FirewallIntent:
    pairs = tuple(Subnet(subnet=ip_network(subnet)) for subnet in subnets or ("10.88.0.0/24", "fd88::/64"))
    network = Network(
        id="ab" * 32, name="web", driver="bridge", subnets=pairs, internal=internal, options=options
    )
    return read_intent(network, "dv-1")


def test_no_options_give_the_defaults() -> None:
    assert read_options({}) == BridgeOptions(mtu=0, icc=True, hairpin=True, bridge="", inhibit_ipv4=False)
    assert intent() == FirewallIntent(link="dv-1", icc=True, internal=False, ipv4=NAT, ipv6=NAT)


@pytest.mark.parametrize(
    ("docker", "ours", "value"),
    [
        ("com.docker.network.driver.mtu", "mtu", "1400"),
        ("com.docker.network.bridge.name", "bridge", "br0"),
        ("com.docker.network.bridge.enable_icc", "icc", "false"),
        ("com.docker.network.bridge.enable_ip_masquerade", "masquerade", "false"),
        ("com.docker.network.bridge.gateway_mode_ipv4", "gateway_mode_ipv4", "routed"),
        ("com.docker.network.bridge.gateway_mode_ipv6", "gateway_mode_ipv6", "nat-unprotected"),
        ("com.docker.network.bridge.inhibit_ipv4", "inhibit_ipv4", "true"),
        ("com.docker.network.bridge.host_binding_ipv4", "host_binding", "127.0.0.1"),
        ("com.docker.network.bridge.trusted_host_interfaces", "trusted_host_interfaces", "eth1:vxlan.1"),
        ("com.docker.network.host_ipv4", "host_ipv4", "192.0.2.7"),
        ("com.docker.network.host_ipv6", "host_ipv6", "fd00:2::7"),
    ],
)
def test_dockers_names_mean_the_same(docker: str, ours: str, value: str) -> None:
    given, same, default = ((read_options(o), intent(**o)) for o in ({docker: value}, {ours: value}, {}))

    assert given == same != default


@pytest.mark.parametrize("order", [1, -1])
def test_our_name_wins_over_dockers(order: int) -> None:
    options = [("com.docker.network.driver.mtu", "1300"), ("mtu", "1400")][::order]

    assert read_options(dict(options)).mtu == 1400


@pytest.mark.parametrize("value", ["1", "t", "T", "TRUE", "true", "True"])
def test_whatever_go_takes_for_true_is_true(value: str) -> None:
    assert read_options({"icc": value}).icc


@pytest.mark.parametrize("value", ["0", "f", "F", "FALSE", "false", "False"])
def test_whatever_go_takes_for_false_is_false(value: str) -> None:
    assert not read_options({"icc": value}).icc


def test_every_key_of_dockers_bridge_driver_is_known() -> None:
    """The constants of moby ``daemon/libnetwork/drivers/bridge/labels.go`` and ``netlabel/labels.go``."""
    bridge = "name enable_icc enable_ip_masquerade gateway_mode_ipv4 gateway_mode_ipv6 inhibit_ipv4 host_binding_ipv4"
    docker = {f"com.docker.network.bridge.{key}" for key in (*bridge.split(), "trusted_host_interfaces")}
    docker |= {f"com.docker.network.{key}" for key in ("driver.mtu", "host_ipv4", "host_ipv6")}

    assert docker <= {synonym for option in KNOWN.values() for synonym in option.synonyms}


def test_a_network_is_protected_whether_it_masquerades_or_not() -> None:
    assert intent(masquerade="false").ipv4 == FamilyIntent(masquerade=False)
    assert intent(protected="false").ipv4 == intent(protected="false").ipv6 == OPEN
    assert intent(protected="true").ipv4 == NAT


def test_each_family_has_a_mode_of_its_own() -> None:
    firewall = intent(gateway_mode_ipv4="nat-unprotected", gateway_mode_ipv6="routed")

    assert firewall.ipv4 == OPEN
    assert firewall.ipv6 == FamilyIntent(mode="routed")


def test_a_mode_that_there_is_not_is_refused_with_those_there_are() -> None:
    key = "com.docker.network.bridge.gateway_mode_ipv6"
    with pytest.raises(InvalidArgument) as caught:
        intent(**{key: "bridged"})

    assert caught.value.where == f"$.options.{key}"
    assert "'bridged' is none of nat, nat-unprotected, routed, isolated" in str(caught.value)


@pytest.mark.parametrize("mode", ["gateway_mode_ipv4", "gateway_mode_ipv6"])
def test_a_mode_and_protected_together_are_refused(mode: str) -> None:
    with pytest.raises(InvalidArgument, match="leave protected out") as caught:
        intent(**{mode: "nat", "protected": "true"})

    assert caught.value.where == "$.options.protected"


def test_only_an_internal_network_is_isolated() -> None:
    with pytest.raises(InvalidArgument, match="only an internal network can be isolated") as caught:
        intent(gateway_mode_ipv6="isolated")
    internal = intent(internal=True, gateway_mode_ipv4="isolated", gateway_mode_ipv6="isolated")

    assert caught.value.where == "$.options.gateway_mode_ipv6"
    assert internal.ipv4 == internal.ipv6 == FamilyIntent(mode="isolated")


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("host_ipv4", "fd00::1", "fd00::1 is no IPv4 address (host_ipv6 takes it)"),
        ("host_ipv6", "192.0.2.1", "192.0.2.1 is no IPv6 address (host_ipv4 takes it)"),
        ("host_ipv4", "eth0", "'eth0' is not an IP address"),
        ("host_ipv4", "0.0.0.0", "no address that traffic could leave the host with"),
        ("com.docker.network.host_ipv6", "ff02::1", "no address that traffic could leave the host with"),
        ("host_ipv4", "127.0.0.1", "no address that traffic could leave the host with"),
        ("host_binding", "all", "'all' is not an IP address"),
        ("host_binding", "192.0.2.1/24", "is not an IP address"),
        ("host_binding", "224.0.0.1", "224.0.0.1 is no address of a host"),
        ("trusted_host_interfaces", "eth0:an-interface-too-long", "is not a valid interface name"),
        ("trusted_host_interfaces", "eth0,eth1 eth2", "is not a valid interface name"),
        ("inhibit_ipv4", "maybe", "'maybe' is not a boolean"),
    ],
)
def test_a_bad_value_is_refused_with_its_place_and_the_reason(key: str, value: str, why: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        intent(**{key: value})

    assert caught.value.where == f"$.options.{key}"
    assert why in str(caught.value)


def test_the_address_of_traffic_that_leaves_is_given_for_each_family() -> None:
    firewall = intent(host_ipv4="192.0.2.7", host_ipv6="fd00:2::7")

    assert firewall.ipv4.source == ip_address("192.0.2.7")
    assert firewall.ipv6.source == ip_address("fd00:2::7")


def test_nothing_leaves_by_a_host_that_is_not_the_gateway() -> None:
    firewall = intent(inhibit_ipv4="true")

    assert (firewall.ipv4.masquerade, firewall.ipv6.masquerade) == (False, True)


@pytest.mark.parametrize(
    ("text", "binding"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "::"), ("0.0.0.0", None), ("", None)],
)
def test_ports_that_name_no_address_are_bound_where_the_network_says(text: str, binding: str | None) -> None:
    assert intent(host_binding=text).host_binding == (ip_address(binding) if binding else None)


def test_ports_cannot_be_bound_in_a_family_that_the_network_has_not() -> None:
    with pytest.raises(InvalidArgument, match="has no IPv6 subnet") as caught:
        intent("10.88.0.0/24", host_binding="::1")

    assert caught.value.where == "$.options.host_binding"


def test_trusted_links_are_read_as_docker_reads_them() -> None:
    assert intent(trusted_host_interfaces="eth1::vxlan.1:eth1").trusted == ("eth1", "vxlan.1")


def test_other_options_of_docker_are_ignored() -> None:
    assert read_options({"com.docker.network.bridge.default_bridge": "x"}) == read_options({})


def test_an_unknown_option_is_refused_with_its_place_and_a_suggestion() -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_options({"masquarade": "true"})

    assert caught.value.where == "$.options.masquarade"
    assert "did you mean 'masquerade'" in str(caught.value)
    assert "hairpin" in str(caught.value)


@pytest.mark.parametrize("key", ["icc", "com.docker.network.bridge.enable_icc"])
@pytest.mark.parametrize("value", ["yes", "", "TrUe", "2"])
def test_a_bad_boolean_is_refused_under_the_name_it_was_given(key: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"is not a boolean") as caught:
        read_options({key: value})

    assert caught.value.where == f"$.options.{key}"


@pytest.mark.parametrize("value", ["", "-1", "1.5", "0x500", "67", "65536", "١٤٠٠"])
def test_a_bad_mtu_is_refused(value: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_options({"mtu": value})

    assert caught.value.where == "$.options.mtu"


def test_an_mtu_too_small_for_ipv6_is_refused_only_with_ipv6() -> None:
    assert read_options({"mtu": "1000"}).mtu == 1000
    with pytest.raises(InvalidArgument, match="IPv6"):
        read_options({"mtu": "1000"}, ipv6=True)


def test_a_bad_bridge_name_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_options({"bridge": "a/b"})

    assert caught.value.where == "$.options.bridge"
