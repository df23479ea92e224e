"""Who has which name: in a zone, and in a sandbox's view of several."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from dovetail.dns.message import name_from_text
from dovetail.dns.zone import Host, Service, View, Zone, host_of
from dovetail.model.endpoint import Endpoint, Owner

FOUR, FIVE, SIX = IPv4Address("10.0.0.4"), IPv4Address("10.0.0.5"), IPv6Address("fd00::6")
WEB = Host("1", ("web", "www", "Shared"), (FOUR, SIX), (Service("http", "tcp", 80),))
DB = Host("2", ("db", "shared"), (FIVE,))


def key(text: str) -> bytes:
    return name_from_text(text).lower()


def test_a_host_is_found_by_name_alias_and_name_in_full() -> None:
    view = View([Zone("front", [WEB, DB])])

    for name in ("web", "www", "web.front", "www.front"):
        assert view.addresses(key(name), 4) == (FOUR,)
        assert view.addresses(key(name), 6) == (SIX,)
        assert view.addresses(key(name), 0) == (FOUR, SIX)


def test_a_shared_alias_has_the_addresses_of_all() -> None:
    assert View([Zone("front", [WEB, DB])]).addresses(key("shared"), 4) == (FOUR, FIVE)


def test_a_known_name_without_the_family_is_known() -> None:
    view = View([Zone("front", [DB])])

    assert view.addresses(key("db"), 6) == ()
    assert view.addresses(key("nobody"), 6) is None


def test_the_first_network_that_has_an_address_of_the_family_decides() -> None:
    back = Zone("back", [Host("3", ("db",), (IPv4Address("10.1.0.9"), IPv6Address("fd01::9")))])
    view = View([Zone("front", [DB]), back])

    assert view.addresses(key("db"), 4) == (FIVE,)
    assert view.addresses(key("db"), 6) == (IPv6Address("fd01::9"),)
    assert view.addresses(key("db.back"), 4) == (IPv4Address("10.1.0.9"),)


def test_a_name_alone_comes_before_a_name_in_full() -> None:
    dotted = Host("9", ("web.front",), (FIVE,))

    assert View([Zone("front", [WEB]), Zone("back", [dotted])]).addresses(key("web.front"), 4) == (FIVE,)


def test_a_network_that_ends_a_label_is_not_its_ending() -> None:
    assert View([Zone("front", [WEB])]).addresses(key("web-front"), 4) is None
    assert View([Zone("front", [WEB])]).addresses(b"\x09web\x05front", 4) is None


def test_a_network_of_several_labels_ends_names() -> None:
    assert View([Zone("my.net", [WEB])]).addresses(key("web.my.net"), 4) == (FOUR,)


def test_an_address_has_its_first_name_in_full() -> None:
    view = View([Zone("front", [WEB, DB])])

    assert view.names(key("4.0.0.10.in-addr.arpa")) == (name_from_text("web.front"),)
    assert view.names(key(SIX.reverse_pointer)) == (name_from_text("web.front"),)
    assert view.names(key("9.0.0.10.in-addr.arpa")) == ()
    assert view.knows(key("4.0.0.10.in-addr.arpa"))


def test_a_service_is_where_its_host_is() -> None:
    view = View([Zone("front", [WEB, DB])])

    (target,) = view.services(key("_http._tcp.web")) or ()
    assert (target.name, target.service.port, target.addresses) == (
        name_from_text("web.front"),
        80,
        (FOUR, SIX),
    )
    assert view.services(key("_HTTP._tcp.shared.front")) == (target,)
    assert view.services(key("_ftp._tcp.web")) == ()
    assert view.services(key("_http._tcp.nobody")) is None
    assert view.services(key("http._tcp.web")) is None
    assert view.services(key("_http._tcp")) is None
    assert view.services(b"") is None


def test_what_cannot_be_asked_for_is_left_out() -> None:
    view = View([Zone("front", [Host("1", ("x" * 64, "größe", "", "web"), (FOUR,))])])

    assert view.addresses(key("web"), 4) == (FOUR,)
    assert view.names(key("4.0.0.10.in-addr.arpa")) == (name_from_text("web.front"),)


def test_a_host_of_unspeakable_names_has_none() -> None:
    view = View([Zone("front", [Host("1", ("x" * 64,), (FOUR,))])])

    assert view.names(key("4.0.0.10.in-addr.arpa")) == ()


def test_a_zone_is_not_changed_by_the_next() -> None:
    before = Zone("front", [WEB])
    after = before.with_host(DB)
    gone = after.without("1")

    assert before.hosts == (WEB,)
    assert after.hosts == (WEB, DB)
    assert gone.hosts == (DB,)
    assert gone.without("nobody").hosts == (DB,)
    assert View([gone]).addresses(key("shared"), 4) == (FIVE,)
    assert View([gone]).addresses(key("www"), 4) is None


def test_a_host_takes_the_place_of_itself() -> None:
    moved = WEB._replace(names=("api",), addresses=(FIVE,))

    view = View([Zone("front", [WEB]).with_host(moved)])

    assert view.addresses(key("api"), 4) == (FIVE,)
    assert view.addresses(key("web"), 4) is None
    assert view.names(key("4.0.0.10.in-addr.arpa")) == ()


def test_an_endpoint_is_a_host_under_its_name_and_aliases() -> None:
    endpoint = Endpoint(
        id="e" * 64,
        network_id="n",
        owner=Owner(face="docker"),
        name="web",
        aliases=("www", "web"),
        addresses=(IPv4Interface("10.0.0.4/24"), IPv6Interface("fd00::6/64")),
    )

    host = host_of(endpoint, "0123456789ab", "", services=[Service("http", "tcp", 80)])

    assert host == Host("e" * 64, ("web", "www", "0123456789ab"), (FOUR, SIX), (Service("http", "tcp", 80),))
