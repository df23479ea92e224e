from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dovetail.errors import InvalidArgument
from dovetail.model.bandwidth import Bandwidth, Rate, parse_bandwidth

MOST = 2**35 - 9  # bits: one below 8 times the number of bytes that are one too many


def test_zero_and_nothing_is_without_a_bound() -> None:
    assert parse_bandwidth() == Bandwidth()
    assert not parse_bandwidth(ingress_rate=0, ingress_burst=0)


def test_each_direction_is_given_by_itself_or_with_the_other() -> None:
    one = parse_bandwidth(egress_rate=8_000, egress_burst=80)
    both = parse_bandwidth(ingress_rate=8, ingress_burst=8, egress_rate=16, egress_burst=24)

    assert one
    assert one == Bandwidth(egress=Rate(rate=8_000, burst=80))
    assert both == Bandwidth(ingress=Rate(rate=8, burst=8), egress=Rate(rate=16, burst=24))


def test_bytes_are_whole_ones() -> None:
    rate = Rate(rate=7_999, burst=23)

    assert (rate.rate_bytes, rate.burst_bytes) == (999, 2)


def test_it_goes_through_json() -> None:
    bandwidth = parse_bandwidth(ingress_rate=8_000, ingress_burst=80)

    assert msgspec.json.decode(msgspec.json.encode(bandwidth), type=Bandwidth) == bandwidth


def test_the_most_there_is_passes() -> None:
    assert parse_bandwidth(ingress_rate=2**54, ingress_burst=MOST).ingress == Rate(rate=2**54, burst=MOST)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"ingress_rate": 8_000},
            "$.ingressBurst: ingressRate is set and ingressBurst is not (give the bits that may go at once)",
        ),
        (
            {"egress_burst": 8_000},
            "$.egressRate: egressBurst is set and egressRate is not (give bits a second)",
        ),
        (
            {"egress_rate": -1, "egress_burst": 8},
            "$.egressRate: -1 bits is less than nothing (0 is without a bound)",
        ),
        (
            {"egress_rate": 8, "egress_burst": -8},
            "$.egressBurst: -8 bits is less than nothing (0 is without a bound)",
        ),
        (
            {"ingress_rate": 8_000, "ingress_burst": MOST + 1},
            f"$.ingressBurst: {MOST + 1} bits is too much (at most {MOST})",
        ),
        (
            {"ingress_rate": 2**64, "ingress_burst": MOST},
            f"$.ingressRate: {2**64} bits a second is too much (at most {2**64 - 1})",
        ),
        (
            {"ingress_rate": 7, "ingress_burst": 8},
            "$.ingressRate: 7 bits a second is less than a byte (the kernel counts bytes)",
        ),
        (
            {"ingress_rate": 8, "ingress_burst": 7},
            "$.ingressBurst: 7 bits is less than a byte (the kernel counts bytes)",
        ),
        (
            {"ingress_rate": 10**11, "ingress_burst": 8_000},
            (
                "$.ingressBurst: a burst of 8000 bits takes less than a microsecond at 100000000000 bits a second"
                " (the kernel keeps it as that time: give a larger burst)"
            ),
        ),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_bandwidth(**given)

    assert str(caught.value) == sentence


def test_the_place_is_the_callers() -> None:
    with pytest.raises(InvalidArgument, match=r"^\$\.runtimeConfig\.bandwidth\.egressBurst: "):
        parse_bandwidth(egress_rate=8, where="$.runtimeConfig.bandwidth")
