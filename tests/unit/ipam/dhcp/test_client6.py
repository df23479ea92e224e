"""The DHCPv6 client on a clock and a wire of the test's."""

from __future__ import annotations

import itertools
import math
from ipaddress import IPv6Interface

import pytest

from dovetail.ipam.dhcp.client6 import SERVERS
from dovetail.ipam.dhcp.machine import State
from dovetail.ipam.dhcp.message6 import (
    ADVERTISE,
    REBIND,
    RELEASE6,
    RENEW,
    REPLY,
    REQUEST6,
    SOLICIT,
    option,
    read_ia_na,
)

RAPID = ((14, b""),)
NO_ADDRESSES, NO_BINDING = b"\0\2none left", b"\0\3who?"


def bind(client, wire, server6, **changes) -> None:
    """Take a lease by the rapid commit."""
    client.advance(wire)
    client.receive(wire, server6.answer(wire.last6, more=RAPID, **changes))
    assert client.state is State.BOUND, client.complaint
    wire.sent.clear()


def run_until(client, wire, time, seconds) -> None:
    end = time.at + seconds
    while client.due <= end:
        time.at = max(time.at, client.due)
        client.advance(wire)
    time.at = end


def test_a_rapid_commit_takes_two_messages(make_client6, wire, server6) -> None:
    client = make_client6()
    more = (*RAPID, (23, server6.given.packed), (24, b"\7example\4test\0"))

    client.advance(wire)
    client.receive(wire, server6.answer(wire.last6, more=more, valid=7200, preferred=3600))

    lease = client.lease
    assert wire.kinds6 == [SOLICIT]
    assert wire.sent[0].destination == SERVERS
    assert lease.address == IPv6Interface("fd00::50/128")
    assert (lease.gateway, lease.routes) == (None, ())
    assert (lease.dns.nameservers, lease.dns.search) == (("fd00::50",), ("example.test",))
    assert (lease.lease_s, lease.renew_s, lease.rebind_s) == (7200.0, 1800.0, 2880.0)


def test_a_solicit_says_who_asks_and_for_what(make_client6, wire) -> None:
    make_client6().advance(wire)
    make_client6().advance(wire)

    first, second = (option(message.options, 1) for message in (wire.last6, wire.last6))
    assert first == second
    assert first[:2] == b"\0\4"
    assert len(first) == 18
    assert option(wire.last6.options, 14) == b""
    assert option(wire.last6.options, 6) == bytes((0, 23, 0, 24, 0, 82))
    assert read_ia_na(option(wire.last6.options, 3)).addresses == ()


def test_without_a_rapid_commit_the_server_that_wants_most_is_chosen_after_a_second(
    make_client6, make_server6, wire, time
) -> None:
    low, high = make_server6(b"\0\3\0\1low", "fd00::1"), make_server6(b"\0\3\0\1high", "fd00::2")
    client = make_client6()
    client.advance(wire)
    solicit = wire.last6
    client.receive(wire, low.answer(solicit, ADVERTISE))
    client.receive(wire, high.answer(solicit, ADVERTISE, more=((7, b"\x05"),)))
    assert wire.kinds6 == [SOLICIT]

    run_until(client, wire, time, 1.11)

    assert wire.kinds6 == [SOLICIT, REQUEST6]
    assert option(wire.last6.options, 2) == high.duid
    assert wire.last6.xid != solicit.xid
    client.receive(wire, low.answer(wire.last6))
    assert client.lease is None
    client.receive(wire, high.answer(wire.last6))
    assert str(client.lease.address.ip) == "fd00::2"


def test_a_server_with_the_highest_preference_is_taken_at_once(make_client6, wire, server6) -> None:
    client = make_client6()
    client.advance(wire)

    client.receive(wire, server6.answer(wire.last6, ADVERTISE, more=((7, b"\xff"),)))

    assert wire.kinds6 == [SOLICIT, REQUEST6]


def test_who_advertises_late_is_taken_at_once(make_client6, wire, server6, time) -> None:
    client = make_client6()
    client.advance(wire)
    run_until(client, wire, time, 1.5)
    assert wire.kinds6 == [SOLICIT, SOLICIT]

    client.receive(wire, server6.answer(wire.last6, ADVERTISE))

    assert wire.kinds6 == [SOLICIT, SOLICIT, REQUEST6]


def test_a_server_without_addresses_is_not_chosen_and_the_complaint_has_its_words(
    make_client6, wire, server6
) -> None:
    client = make_client6()
    client.advance(wire)

    client.receive(wire, server6.answer(wire.last6, ADVERTISE, status=NO_ADDRESSES))

    assert client.state is State.SELECTING
    assert client.complaint.endswith("the server gives no address (status 2): none left")


@pytest.mark.parametrize(
    "changes",
    [{"xid": 1}, {"options": ()}, {"kind": 200}],
)
def test_answers_that_are_not_ours_are_passed_over(make_client6, wire, server6, changes) -> None:
    client = make_client6()
    client.advance(wire)

    client.receive(wire, server6.answer(wire.last6, **{"more": RAPID, **changes}))

    assert client.lease is None


def test_a_reply_without_rapid_commit_to_a_solicit_is_no_lease(make_client6, wire, server6) -> None:
    client = make_client6()
    client.advance(wire)

    client.receive(wire, server6.answer(wire.last6, REPLY))

    assert client.lease is None


@pytest.mark.parametrize("given", ["::", "::1", "ff02::1", "fe80::5"])
def test_an_address_that_no_host_can_have_is_not_taken(make_client6, make_server6, wire, given) -> None:
    client = make_client6()
    client.advance(wire)

    client.receive(wire, make_server6(given=given).answer(wire.last6, more=RAPID))

    assert client.lease is None
    assert "it gives no address" in client.complaint


@pytest.mark.parametrize("lifetimes", [{"valid": 0, "preferred": 0}, {"valid": 100, "preferred": 200}])
def test_lifetimes_that_make_no_sense_are_no_lease(make_client6, wire, server6, lifetimes) -> None:
    client = make_client6()
    client.advance(wire)

    client.receive(wire, server6.answer(wire.last6, more=RAPID, **lifetimes))

    assert client.lease is None


def test_t1_later_than_t2_is_no_lease(make_client6, wire, server6) -> None:
    client = make_client6()
    client.advance(wire)

    client.receive(wire, server6.answer(wire.last6, more=RAPID, t1=900, t2=800))

    assert client.lease is None


def test_solicits_are_sent_again_later_each_time(make_client6, wire, time) -> None:
    client = make_client6()
    times = []
    while len(times) < 15:
        time.at = max(time.at, client.due)
        client.advance(wire)
        times.append(time.at)

    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] >= 1
    assert all(b >= 1.5 * a for a, b in itertools.pairwise(gaps[:11]))
    assert max(gaps) <= 3600 * 1.1


def test_a_server_may_say_how_long_to_wait_between_solicits(make_client6, wire, server6, time) -> None:
    client = make_client6()
    client.advance(wire)
    more = ((82, (60).to_bytes(4, "big")),)
    client.receive(wire, server6.answer(wire.last6, ADVERTISE, status=NO_ADDRESSES, more=more))

    before = time.at
    run_until(client, wire, time, 3600)

    assert len(wire.sent) >= 55
    assert client.due - before <= 3600 + 66


def test_renew_asks_the_server_and_rebind_all(make_client6, wire, server6, make_server6, time) -> None:
    client = make_client6()
    bind(client, wire, server6)

    run_until(client, wire, time, 1801)
    assert set(wire.kinds6) == {RENEW}
    assert option(wire.last6.options, 2) == server6.duid
    assert read_ia_na(option(wire.last6.options, 3)).addresses[0].address == server6.given
    run_until(client, wire, time, 1100)
    assert wire.kinds6[-1] == REBIND
    assert option(wire.last6.options, 2) is None

    other = make_server6(b"\0\3\0\1other")
    client.receive(wire, other.answer(wire.last6))

    assert client.state is State.BOUND
    assert client.lease.server == other.duid.hex()


def test_a_server_that_has_forgotten_is_asked_to_give_it_again(make_client6, wire, server6, time) -> None:
    client = make_client6()
    bind(client, wire, server6)
    run_until(client, wire, time, 1801)

    client.receive(wire, server6.answer(wire.last6, status=NO_BINDING))

    assert wire.kinds6[-1] == REQUEST6
    assert client.lease is not None
    assert read_ia_na(option(wire.last6.options, 3)).addresses[0].address == server6.given
    client.receive(wire, server6.answer(wire.last6))
    assert client.state is State.BOUND


def test_a_server_that_has_forgotten_and_gives_nothing_ends_the_lease_when_it_runs_out(
    make_client6, wire, server6, time
) -> None:
    client = make_client6()
    bind(client, wire, server6)
    run_until(client, wire, time, 1801)
    for _ in range(2):
        client.receive(wire, server6.answer(wire.last6, status=NO_BINDING))
    assert client.lease is not None

    run_until(client, wire, time, 1800)

    assert client.lease is None


def test_a_lifetime_of_zero_takes_the_lease_at_once(make_client6, wire, server6, time) -> None:
    client = make_client6()
    bind(client, wire, server6)
    run_until(client, wire, time, 1801)

    client.receive(wire, server6.answer(wire.last6, valid=0, preferred=0))

    assert client.lease is None
    assert wire.kinds6[-1] == SOLICIT


def test_a_lease_that_nobody_renews_runs_out(make_client6, wire, server6, time) -> None:
    client = make_client6()
    bind(client, wire, server6)

    run_until(client, wire, time, 3601)

    assert client.lease is None
    assert wire.kinds6[-1] == SOLICIT
    assert read_ia_na(option(wire.last6.options, 3)).addresses[0].address == server6.given


def test_a_lease_that_is_given_after_a_long_silence_is_as_long_as_it_says(
    make_client6, wire, server6, time
) -> None:
    client = make_client6()
    run_until(client, wire, time, 100_000)
    time.at = client.due
    client.advance(wire)

    client.receive(wire, server6.answer(wire.last6, more=RAPID))

    assert client.state is State.BOUND
    assert client.due > time.at + 1000


def test_a_lease_for_ever_is_never_due(make_client6, wire, server6) -> None:
    client = make_client6()
    bind(client, wire, server6, valid=0xFFFFFFFF, preferred=0xFFFFFFFF)

    assert client.due == math.inf
    assert client.lease.expires_at is None


def test_release_waits_for_its_reply(make_client6, wire, server6) -> None:
    client = make_client6()
    bind(client, wire, server6)

    client.release(wire)

    assert wire.kinds6 == [RELEASE6]
    assert option(wire.last6.options, 2) == server6.duid
    assert not client.released
    client.receive(wire, server6.answer(wire.last6, status=b"\0\0"))
    assert client.released


def test_release_gives_up_after_a_second(make_client6, wire, server6, time) -> None:
    client = make_client6()
    bind(client, wire, server6)

    client.release(wire)
    run_until(client, wire, time, 1.2)

    assert wire.kinds6 == [RELEASE6, RELEASE6]
    assert client.released
    assert client.due == math.inf


def test_a_stored_lease_goes_on_where_it_was(make_client6, wire, server6, time) -> None:
    client = make_client6()
    bind(client, wire, server6)
    time.go(1000)

    again = make_client6(client.lease)

    assert again.state is State.BOUND
    assert again.due <= time.at + 800
