from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from dovetail.errors import InvalidArgument
from dovetail.model.attachment import Route
from dovetail.model.routes import format_route, parse_route, parse_routes


@pytest.mark.parametrize(
    ("text", "route"),
    [
        (
            "10.0.0.0/8 via 10.1.2.3",
            Route(destination=ip_network("10.0.0.0/8"), gateway=ip_address("10.1.2.3")),
        ),
        ("10.99.0.0/16", Route(destination=ip_network("10.99.0.0/16"))),
        ("  169.254.1.1 ", Route(destination=ip_network("169.254.1.1/32"))),
        ("default via fd00::1", Route(destination=ip_network("::/0"), gateway=ip_address("fd00::1"))),
        ("0.0.0.0/0", Route(destination=ip_network("0.0.0.0/0"))),
        (
            "fd01::/48 metric 50 via fd00::9 mtu 1400 advmss 1360",
            Route(
                destination=ip_network("fd01::/48"),
                gateway=ip_address("fd00::9"),
                priority=50,
                mtu=1400,
                advmss=1360,
            ),
        ),
    ],
)
def test_a_route_is_written_as_ip_route_writes_it(text: str, route: Route) -> None:
    assert parse_route(text) == route
    assert parse_route(format_route(route)) == route


def test_several_routes_have_commas_between_them() -> None:
    assert parse_routes("10.0.0.0/8 via 10.1.2.3,10.99.0.0/16") == (
        parse_route("10.0.0.0/8 via 10.1.2.3"),
        parse_route("10.99.0.0/16"),
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "''"),
        ("10.0.0.0/8 via", "10.0.0.0/8 via"),
        ("10.0.0.0/8 dev eth0", "dev"),
        ("10.0.0.1/8", "host bits"),
        ("10.0.0.0/8 via fd00::1", "fd00::1"),
        ("10.0.0.0/8 via 10.1.1.1 via 10.1.1.2", "via"),
        ("10.0.0.0/8 metric -1", "-1"),
        ("10.0.0.0/8 metric 4294967296", "4294967296"),
        ("10.0.0.0/8 metric " + "9" * 5000, "metric"),
        ("default", "gateway"),
        ("nowhere", "nowhere"),
        ("fe80::1%eth0", "zone"),
    ],
)
def test_what_is_no_route_is_refused_by_its_word(text: str, word: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_route(text, where="$.options.route")

    assert word in str(caught.value)
    assert caught.value.where == "$.options.route"
