"""The DHCPv4 client on a clock and a wire of the test's."""

from __future__ import annotations

import itertools
import math
from ipaddress import IPv4Address, IPv4Interface

import pytest

from dovetail.ipam.dhcp import options as o
from dovetail.ipam.dhcp.machine import State
from dovetail.ipam.dhcp.message import DISCOVER, RELEASE, REQUEST

EVERYBODY = IPv4Address("255.255.255.255")
FOREVER = b"\xff" * 4


def bind(client, wire, server, **changes) -> None:
    """Take a lease by the usual four messages."""
    client.advance(wire)
    client.receive(wire, server.offer(wire.last, **changes))
    client.receive(wire, server.ack(wire.last, **changes))
    assert client.state is State.BOUND
    wire.sent.clear()


def run_until(client, wire, time, seconds) -> None:
    """Let time pass, and the client act whenever it is due."""
    end = time.at + seconds
    while client.due <= end:
        time.at = max(time.at, client.due)
        client.advance(wire)
    time.at = end


def test_a_lease_takes_discover_offer_request_ack(make_client, wire, server, time) -> None:
    client = make_client()

    bind(client, wire, server)

    lease = client.lease
    assert lease.address == IPv4Interface("10.0.0.50/24")
    assert str(lease.gateway) == "10.0.0.1"
    assert [str(route.destination) for route in lease.routes] == ["0.0.0.0/0"]
    assert (lease.server, lease.server_mac) == ("10.0.0.1", "02:00:5e:10:00:fe")
    assert (lease.lease_s, lease.renew_s, lease.rebind_s) == (3600.0, 1800.0, 3150.0)
    assert lease.obtained_at == time.clock().wall()
    assert lease.expires_at == lease.obtained_at + 3600


def test_what_is_asked_carries_client_id_parameters_and_size(make_client, wire) -> None:
    client = make_client(provide={12: b"web"}, request=(1, 121, 3))

    client.advance(wire)

    sent = wire.last
    assert sent.kind == DISCOVER
    assert sent.options[o.CLIENT_ID] == b"\0c1/net/eth0"
    assert sent.options[o.PARAMETERS] == bytes((1, 121, 3))
    assert sent.options[o.MAX_SIZE] == (1500).to_bytes(2, "big")
    assert sent.options[12] == b"web"
    assert (sent.chaddr, sent.ciaddr, sent.broadcast) == (wire.mac, IPv4Address(0), False)
    assert (wire.sent[-1].source, wire.sent[-1].destination) == (IPv4Address(0), EVERYBODY)


def test_a_client_id_is_cut_to_254_bytes_as_the_go_plugins(make_client, wire) -> None:
    client = make_client(container="c" * 300)

    client.advance(wire)

    assert wire.last.options[o.CLIENT_ID] == b"\0" + b"c" * 254


def test_the_request_names_the_chosen_server_and_address_in_the_same_transaction(
    make_client, wire, server
) -> None:
    client = make_client()
    client.advance(wire)
    discover = wire.last

    client.receive(wire, server.offer(discover))

    assert wire.last.kind == REQUEST
    assert wire.last.xid == discover.xid
    assert wire.last.options[o.SERVER_ID] == server.address.packed
    assert wire.last.options[o.REQUESTED_ADDRESS] == server.given.packed
    assert wire.sent[-1].destination == EVERYBODY


def test_broadcast_is_asked_for_until_there_is_an_address(make_client, wire, server, time) -> None:
    client = make_client(broadcast=True)
    client.advance(wire)
    assert wire.last.broadcast
    client.receive(wire, server.offer(wire.last))
    assert wire.last.broadcast
    client.receive(wire, server.ack(wire.last))

    run_until(client, wire, time, 1800)

    assert wire.last.ciaddr == server.given
    assert not wire.last.broadcast


def test_lost_messages_are_sent_again_later_each_time_and_never_more_than_64_s_apart(
    make_client, wire, time
) -> None:
    client = make_client()
    times = []
    while len(times) < 12:
        time.at = max(time.at, client.due)
        client.advance(wire)
        times.append(time.at)

    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    steps = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert all(0.75 * step <= gap <= 1.25 * step for step, gap in zip(steps, gaps, strict=True))
    assert set(wire.kinds) == {DISCOVER}
    assert len({message.xid for message in wire.messages}) == 1
    assert wire.last.secs == int(times[-1] - times[0])


def test_a_lost_ack_is_asked_for_again_and_then_another_server_is_looked_for(
    make_client, wire, server, time
) -> None:
    client = make_client()
    client.advance(wire)
    client.receive(wire, server.offer(wire.last))
    assert wire.kinds == [DISCOVER, REQUEST]

    run_until(client, wire, time, 20)

    assert wire.kinds[:7] == [DISCOVER, *[REQUEST] * 5, DISCOVER]
    assert "does not answer any more" in client.complaint
    client.receive(wire, server.offer(wire.last))
    client.receive(wire, server.ack(wire.last))
    assert client.state is State.BOUND


def test_the_first_of_two_offers_is_taken_and_only_its_server_may_acknowledge(
    make_client, make_server, wire
) -> None:
    first, second = make_server("10.0.0.1", "10.0.0.50"), make_server("10.0.0.2", "10.0.0.60")
    client = make_client()
    client.advance(wire)
    discover = wire.last

    client.receive(wire, first.offer(discover))
    client.receive(wire, second.offer(discover))
    request = wire.last
    client.receive(wire, second.ack(request))

    assert client.lease is None
    assert wire.kinds == [DISCOVER, REQUEST]
    client.receive(wire, first.ack(request))
    assert str(client.lease.address.ip) == "10.0.0.50"


def test_answers_to_other_transactions_and_other_clients_are_passed_over(make_client, wire, server) -> None:
    client = make_client()
    client.advance(wire)

    client.receive(wire, server.offer(wire.last, xid=wire.last.xid ^ 1))
    client.receive(wire, server.offer(wire.last, chaddr=b"\2\0\0\0\0\0"))
    client.receive(wire, server.offer(wire.last, op=1))

    assert client.state is State.SELECTING
    assert client.complaint == ""


def test_an_ack_that_nobody_asked_for_is_no_lease(make_client, wire, server) -> None:
    client = make_client()
    client.advance(wire)

    client.receive(wire, server.ack(wire.last))

    assert client.lease is None


def test_a_nak_begins_anew_after_a_pause_that_grows(make_client, wire, server, time) -> None:
    client = make_client()
    pauses = []
    for _ in range(9):
        time.at = max(time.at, client.due)
        client.advance(wire)
        client.receive(wire, server.offer(wire.last))
        client.receive(wire, server.nak(wire.last, options={o.MESSAGE: b"wrong\nnetwork"}))
        assert client.state is State.SELECTING
        pauses.append(client.due - time.at)

    assert pauses == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert client.complaint == "the DHCP server refused the address: wrongnetwork"


def test_a_nak_of_a_server_that_was_not_chosen_is_passed_over(make_client, make_server, wire, server) -> None:
    client = make_client()
    client.advance(wire)
    client.receive(wire, server.offer(wire.last))

    client.receive(wire, make_server("10.0.0.9").nak(wire.last))

    assert client.state is State.REQUESTING


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"options": {o.SUBNET_MASK: None}}, "no subnet mask"),
        ({"options": {o.SUBNET_MASK: b"\xff\0\xff\0"}}, "255.0.255.0 is no subnet mask"),
        ({"options": {o.LEASE_TIME: None}}, "no lease time"),
        ({"options": {o.LEASE_TIME: b"\0" * 4}}, "a lease of 0 s is too short"),
        ({"options": {o.LEASE_TIME: b"\0"}}, "the lease time has 1 bytes"),
        ({"options": {o.SERVER_ID: None}}, "no server identifier"),
        ({"options": {o.SERVER_ID: b"\xe0\0\0\1"}}, "its server identifier is 224.0.0.1"),
        ({"yiaddr": IPv4Address("0.0.0.0")}, "it gives the address 0.0.0.0"),
        ({"yiaddr": IPv4Address("127.0.0.1")}, "it gives the address 127.0.0.1"),
        ({"yiaddr": EVERYBODY}, "it gives the address 255.255.255.255"),
        ({"options": {o.CLASSLESS_ROUTES: b"\x21"}}, "classless routes end in the middle"),
    ],
)
def test_an_offer_that_no_container_could_live_on_is_not_taken_and_says_why(
    make_client, wire, server, changes, complaint
) -> None:
    client = make_client()
    client.advance(wire)

    client.receive(wire, server.offer(wire.last, **changes))

    assert client.state is State.SELECTING
    assert client.complaint.startswith("the answer of 10.0.0.1 cannot be used: ")
    assert complaint in client.complaint
    client.receive(wire, server.offer(wire.last))
    assert client.state is State.REQUESTING


def test_renewal_asks_the_server_alone_and_dates_the_lease_from_the_question(
    make_client, wire, server, time
) -> None:
    client = make_client()
    bind(client, wire, server)
    before = client.lease

    run_until(client, wire, time, 1800)
    asked = wire.last
    time.go(5)
    client.receive(wire, server.ack(asked))

    assert wire.kinds == [REQUEST]
    assert (asked.ciaddr, o.REQUESTED_ADDRESS in asked.options, o.SERVER_ID in asked.options) == (
        server.given,
        False,
        False,
    )
    sent = wire.sent[0]
    assert (sent.source, sent.destination, sent.mac.hex(":")) == (
        server.given,
        server.address,
        before.server_mac,
    )
    assert client.state is State.BOUND
    assert client.lease.same_settings(before)
    assert 0 < client.lease.obtained_at - before.obtained_at <= 1800


def test_a_renewal_is_at_most_a_tenth_early(make_client, wire, server, time) -> None:
    client = make_client()
    bind(client, wire, server)

    assert time.at + 0.9 * 1800 <= client.due <= time.at + 1800


def test_t1_and_t2_of_the_server_count_where_they_are_in_order(make_client, wire, server) -> None:
    client = make_client()
    bind(
        client,
        wire,
        server,
        options={
            o.RENEWAL_TIME: (600).to_bytes(4, "big"),
            o.REBINDING_TIME: (1200).to_bytes(4, "big"),
        },
    )

    assert (client.lease.renew_s, client.lease.rebind_s) == (600.0, 1200.0)


@pytest.mark.parametrize(("t1", "t2"), [(0, 0), (2000, 1000), (3600, 3600), (100, 4000)])
def test_t1_and_t2_that_make_no_sense_are_the_defaults(make_client, wire, server, t1, t2) -> None:
    client = make_client()
    bind(
        client,
        wire,
        server,
        options={o.RENEWAL_TIME: t1.to_bytes(4, "big"), o.REBINDING_TIME: t2.to_bytes(4, "big")},
    )

    assert (client.lease.renew_s, client.lease.rebind_s) == (1800.0, 3150.0)


def test_a_server_that_is_silent_is_asked_at_half_of_what_remains_and_then_everybody(
    make_client, wire, server, make_server, time
) -> None:
    client = make_client()
    bind(client, wire, server)

    run_until(client, wire, time, 3149)
    assert {sent.destination for sent in wire.sent} == {server.address}
    assert 3 <= len(wire.sent) <= 7
    run_until(client, wire, time, 2)

    assert client.state is State.REBINDING
    assert (wire.sent[-1].destination, wire.last.ciaddr) == (EVERYBODY, server.given)
    client.receive(wire, make_server("10.0.0.2").ack(wire.last))
    assert client.lease.server == "10.0.0.2"


def test_a_late_answer_to_an_earlier_question_does_not_renew(make_client, wire, server, time) -> None:
    client = make_client()
    bind(client, wire, server)
    run_until(client, wire, time, 1800)
    early = wire.last
    run_until(client, wire, time, 800)
    assert len(wire.sent) > 1

    client.receive(wire, server.ack(early))

    assert client.state is State.RENEWING


def test_a_lease_that_nobody_renews_runs_out_and_the_same_address_is_asked_for(
    make_client, wire, server, time
) -> None:
    client = make_client()
    bind(client, wire, server)

    run_until(client, wire, time, 3599)
    assert client.lease is not None
    run_until(client, wire, time, 2)

    assert client.lease is None
    assert (wire.last.kind, wire.last.options[o.REQUESTED_ADDRESS]) == (DISCOVER, server.given.packed)
    client.receive(wire, server.offer(wire.last))
    client.receive(wire, server.ack(wire.last))
    assert client.state is State.BOUND


def test_a_nak_to_a_renewal_takes_the_lease_at_once_and_asks_for_any_address(
    make_client, wire, server, time
) -> None:
    client = make_client()
    bind(client, wire, server)
    run_until(client, wire, time, 1800)

    client.receive(wire, server.nak(wire.last))

    assert client.lease is None
    assert wire.last.kind == DISCOVER
    assert o.REQUESTED_ADDRESS not in wire.last.options


def test_a_lease_for_ever_is_never_due(make_client, wire, server, time) -> None:
    client = make_client()
    bind(client, wire, server, options={o.LEASE_TIME: FOREVER})

    assert client.due == math.inf
    assert (client.lease.lease_s, client.lease.expires_at) == (None, None)
    time.go(10**9)
    client.advance(wire)
    assert client.lease is not None
    assert wire.sent == []


def test_a_stored_lease_goes_on_where_it_was(make_client, wire, server, time) -> None:
    client = make_client()
    bind(client, wire, server)
    time.go(1000)

    again = make_client(client.lease)

    assert again.state is State.BOUND
    assert time.at + 0.9 * 1800 - 1000 <= again.due <= time.at + 800


def test_a_stored_lease_that_ran_out_meanwhile_is_lost(make_client, wire, server, time) -> None:
    client = make_client()
    bind(client, wire, server)
    time.go(4000)

    again = make_client(client.lease)
    again.advance(wire)

    assert again.lease is None
    assert wire.last.options[o.REQUESTED_ADDRESS] == server.given.packed


def test_a_wall_clock_that_jumps_does_not_end_a_lease(make_client, wire, server, time) -> None:
    client = make_client()
    bind(client, wire, server)

    time.epoch += 10**7
    client.advance(wire)

    assert client.lease is not None
    assert wire.sent == []


def test_a_wall_clock_that_was_set_back_does_not_make_a_stored_lease_longer(
    make_client, wire, server, time
) -> None:
    client = make_client()
    bind(client, wire, server)
    time.epoch -= 10**7

    assert make_client(client.lease).due <= time.at + 1800


def test_release_tells_the_server_alone_with_nothing_but_who_and_what(make_client, wire, server) -> None:
    client = make_client(provide={12: b"web", o.CLIENT_ID: b"mine"})
    bind(client, wire, server)

    client.release(wire)

    assert client.released
    assert wire.last.kind == RELEASE
    assert set(wire.last.options) == {o.MESSAGE_TYPE, o.SERVER_ID, o.CLIENT_ID}
    assert wire.last.options[o.CLIENT_ID] == b"mine"
    assert (wire.last.ciaddr, wire.sent[-1].destination) == (server.given, server.address)


def test_release_without_a_lease_says_nothing(make_client, wire) -> None:
    client = make_client()
    client.advance(wire)
    wire.sent.clear()

    client.release(wire)

    assert client.released
    assert wire.sent == []


def test_an_interface_that_is_down_is_tried_again_soon(make_client, wire, time) -> None:
    client = make_client()
    wire.down = True
    client.advance(wire)
    assert client.due - time.at < 0.1
    assert "cannot send" in client.complaint

    wire.down = False
    time.at = client.due
    client.advance(wire)

    assert wire.kinds == [DISCOVER]


def test_without_a_way_to_send_the_lease_still_runs_out(make_client, wire, server, time) -> None:
    client = make_client()
    bind(client, wire, server)

    run_until(client, None, time, 3601)

    assert client.lease is None
