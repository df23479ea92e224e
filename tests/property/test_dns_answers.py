"""Answers beside dnspython: right content to questions it makes, and bytes of anybody raise nothing."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import hypothesis.strategies as st
from hypothesis import given

from dovetail.dns.answer import Answers, Ask, refusal
from dovetail.dns.zone import Host, Service, View, Zone

NAMES = ("web", "db", "Cache", "a.b", "x" * 63)
NETWORKS = ("front", "back.end")
HOSTS = st.builds(
    Host,
    id=st.uuids().map(str),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(tuple),
    addresses=st.lists(
        st.one_of(
            st.integers(1, 60).map(lambda n: IPv4Address(0x0A000000 + n)),
            st.integers(1, 60).map(lambda n: IPv6Address((0xFD << 120) + n)),
        ),
        max_size=3,
    ).map(tuple),
    services=st.sampled_from(
        [(), (Service("http", "tcp", 80),), (Service("http", "tcp", 80), Service("http", "tcp", 81))]
    ),
)
ZONES = st.lists(HOSTS, max_size=30)
VIEWS = st.tuples(ZONES, ZONES).map(
    lambda two: View(Zone(name, hosts) for name, hosts in zip(NETWORKS, two, strict=True))
)
ASKED = st.one_of(
    st.sampled_from(
        [
            *NAMES,
            *(f"{name}.{network}" for name in NAMES for network in NETWORKS),
            "_http._tcp.web",
            "_x._tcp.db.front",
        ]
    ),
    st.integers(1, 60).map(lambda n: f"{n}.0.0.10.in-addr.arpa"),
    st.just("elsewhere.test"),
)
KINDS = st.sampled_from(["A", "AAAA", "PTR", "SRV", "MX", "ANY", "HTTPS"])


def expected(view: View, name: str, kind: str) -> set[str] | None:
    """Say by a slow search what a name has; None where nobody has it."""
    ladder = [(zone, name.lower()) for zone in view.zones]
    ladder += [
        (z, name.lower().removesuffix("." + z.network))
        for z in view.zones
        if name.lower().endswith("." + z.network)
    ]
    version = {"A": 4, "AAAA": 6}[kind]
    known = False
    for zone, alone in ladder:
        hosts = [host for host in zone.hosts if alone in {each.lower() for each in host.names}]
        known = known or bool(hosts)
        found = {str(address) for host in hosts for address in host.addresses if address.version == version}
        if found:
            return found
    return set() if known else None


@given(VIEWS, ASKED, KINDS, st.sampled_from([None, 512, 1232, 4096]), st.booleans(), st.randoms())
def test_an_answer_says_what_the_zone_says(view, name, kind, size, stream, random) -> None:
    cased = "".join(random.choice((letter.lower(), letter.upper())) for letter in name)
    query = dns.message.make_query(cased, kind, use_edns=0 if size else -1, payload=size or 0)
    answers = Answers(view)

    turns = [answers.answer(query.to_wire(), stream=stream) for _ in range(3)]

    for answer in turns:
        if isinstance(answer, Ask):
            assert answer.query == query.to_wire()
            continue
        assert len(answer) <= (65535 if stream else max(size or 512, 512))
        read = dns.message.from_wire(answer)
        assert read.is_response if False else query.is_response(read)
        assert read.question[0].name.labels == query.question[0].name.labels  # the question's case
        assert (read.edns >= 0) == (size is not None)
        if kind in ("A", "AAAA"):
            want = expected(view, name, kind)
            got = {str(rdata) for rrset in read.answer for rdata in rrset}
            if want is not None:
                assert read.rcode() == dns.rcode.NOERROR
                assert got == want or (read.flags & dns.flags.TC and got < want)
    if kind in ("A", "AAAA") and isinstance(turns[0], Ask):
        assert expected(view, name, kind) is None


@given(
    VIEWS,
    st.one_of(
        st.binary(max_size=120),
        st.binary(max_size=100).map(lambda t: b"\0\1\1\0\0\1\0\0\0\0\0\0" + t),
        st.binary(max_size=60).map(lambda t: b"\0\1\1\0\0\1\0\0\0\0\0\1\3web\0\0\1\0\1" + t),
    ),
    st.booleans(),
)
def test_bytes_of_anybody_have_an_answer_that_can_be_read_or_none(view, data, stream) -> None:
    answer = Answers(view).answer(data, stream=stream)

    if isinstance(answer, Ask):
        answer = refusal(answer.query, 2)
    if answer is None:
        assert len(data) < 12 or data[2] & 0x80
        return
    assert answer[:2] == data[:2]
    assert answer[2] & 0x80
    dns.message.from_wire(answer)


@given(st.lists(HOSTS, max_size=12), st.data())
def test_a_zone_changed_step_by_step_is_the_zone_made_at_once(hosts, data) -> None:
    zone = Zone("front")
    left: dict[str, Host] = {}
    for host in hosts:
        zone = zone.with_host(host)
        left[host.id] = host
        if data.draw(st.booleans()):
            gone = data.draw(st.sampled_from(sorted(left)))
            zone = zone.without(gone)
            del left[gone]

    made = Zone("front", left.values())
    assert zone.hosts == made.hosts
    for name in NAMES:
        key = Zone("x", [Host("1", (name,), ())])
        wire = next(iter(key._tables.named))
        assert sorted(zone.named(wire)) == sorted(made.named(wire))
