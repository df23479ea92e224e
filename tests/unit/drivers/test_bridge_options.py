from __future__ import annotations

import pytest

from dovetail.drivers.bridge_options import BridgeOptions, read_options
from dovetail.errors import InvalidArgument


def test_no_options_give_the_defaults() -> None:
    assert read_options({}) == BridgeOptions(
        mtu=0, icc=True, hairpin=True, masquerade=True, bridge="", protected=True
    )


@pytest.mark.parametrize(
    ("docker", "ours", "value"),
    [
        ("com.docker.network.driver.mtu", "mtu", "1400"),
        ("com.docker.network.bridge.name", "bridge", "br0"),
        ("com.docker.network.bridge.enable_icc", "icc", "false"),
        ("com.docker.network.bridge.enable_ip_masquerade", "masquerade", "false"),
    ],
)
def test_dockers_names_mean_the_same(docker: str, ours: str, value: str) -> None:
    assert read_options({docker: value}) == read_options({ours: value}) != read_options({})


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


def test_protected_follows_masquerade_unless_it_is_given() -> None:
    assert not read_options({"masquerade": "false"}).protected
    assert read_options({"masquerade": "false", "protected": "true"}).protected


def test_other_options_of_docker_are_ignored() -> None:
    assert read_options({"com.docker.network.container_iface_prefix": "x"}) == read_options({})


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
