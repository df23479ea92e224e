"""host-local beside a model that walks every address, and a directory that anything may be in."""

from __future__ import annotations

import os
import shutil
import tempfile
from ipaddress import ip_address, ip_network
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dovetail.errors import AddressInUse, DovetailError, InvalidArgument, PoolExhausted
from dovetail.ipam import host_local_books
from dovetail.ipam.host_local import HostLocal
from dovetail.ipam.host_local_ranges import RangeSet, address_range, range_set

SETS = [
    [("10.0.0.0/29", "", "", "")],
    [("10.0.0.0/29", "10.0.0.0", "10.0.0.7", "")],
    [("10.0.0.0/29", "10.0.0.3", "10.0.0.5", "10.0.0.4")],
    [
        ("10.0.0.0/24", "10.0.0.9", "10.0.0.11", "10.0.0.21"),
        ("10.0.0.0/24", "10.0.0.20", "10.0.0.22", "10.0.0.9"),
    ],
    [("10.1.0.0/30", "", "", ""), ("10.0.0.0/30", "", "", ""), ("10.2.0.0/30", "", "", "10.9.0.1")],
    [("255.255.255.248/29", "", "", "")],
    [("fd00::/125", "", "", "")],
    [("fd00::/64", "fd00::fffe", "fd00::1:2", "")],
    [("10.0.0.0/30", "10.0.0.1", "10.0.0.1", "")],
]
OWNERS = st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["eth0", "eth1"]))


def made(parts: list[tuple[str, str, str, str]]) -> RangeSet:
    return range_set(
        [
            address_range(
                ip_network(subnet),
                **{
                    key: ip_address(text)
                    for key, text in (("first", first), ("last", last), ("gateway", gateway))
                    if text
                },
            )
            for subnet, first, last, gateway in parts
        ]
    )


class HostLocalMachine(RuleBasedStateMachine):
    """`held` says who has what; `last` is the last address given; `walk` every address of the ranges in order."""

    @initialize(which=st.sampled_from(SETS))
    def begin(self, which: list[tuple[str, str, str, str]]) -> None:
        self.directory = tempfile.mkdtemp()
        self.ranges = made(which)
        self.held: dict[int, tuple[str, str]] = {}
        self.last: int | None = None
        self.walk = [
            number for one in self.ranges.ranges for number in range(int(one.first), int(one.last) + 1)
        ]
        self.never = {int(one.gateway) for one in self.ranges.ranges}
        for one in self.ranges.ranges:
            self.never.add(int(one.subnet.network_address))
            if one.subnet.version == 4:
                self.never.add(int(one.subnet.broadcast_address))

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            shutil.rmtree(self.directory)

    @property
    def ipam(self) -> HostLocal:
        return HostLocal(self.directory, "n1")

    def expected(self) -> int | None:
        start = self.walk.index(self.last) + 1 if self.last in self.walk else 0
        for number in (*self.walk[start:], *self.walk[:start]):
            if number not in self.held and number not in self.never:
                return number
        return None

    @rule(owner=OWNERS, many=st.integers(min_value=0, max_value=3))
    def add(self, owner: tuple[str, str], many: int) -> None:
        owner = (owner[0] + "x" * many, owner[1])
        expected = self.expected()
        try:
            found = self.ipam.add(*owner, (self.ranges,))
        except AddressInUse:
            assert owner in self.held.values()
            return
        except PoolExhausted:
            assert expected is None
            return
        assert owner not in self.held.values()
        self.note(owner, int(found[0].address.ip))
        assert self.last == expected
        assert found[0].gateway in {one.gateway for one in self.ranges.ranges if found[0].address.ip in one}

    @rule(owner=OWNERS, place=st.integers(min_value=-1, max_value=9))
    def ask(self, owner: tuple[str, str], place: int) -> None:
        number = self.walk[place % len(self.walk)] if place >= 0 else self.walk[0] - 1
        address = type(self.ranges.ranges[0].first)(number)
        try:
            found = self.ipam.add(*owner, (self.ranges,), (address,))
        except AddressInUse:
            assert owner in self.held.values() or number in self.held
            return
        except InvalidArgument:
            assert number in self.never or number not in self.walk
            return
        assert found[0].address.ip == address
        assert number not in self.held
        self.note(owner, number)

    def note(self, owner: tuple[str, str], number: int) -> None:
        assert number in self.walk
        assert number not in self.never
        self.held[number] = owner
        self.last = number

    @rule(owner=OWNERS)
    def delete(self, owner: tuple[str, str]) -> None:
        gone = {int(one) for one in self.ipam.delete(*owner)}
        assert gone == {number for number, holder in self.held.items() if holder == owner}
        self.held = {number: holder for number, holder in self.held.items() if number not in gone}

    @rule(valid=st.sets(OWNERS, max_size=3))
    def gc(self, valid: set[tuple[str, str]]) -> None:
        gone = {int(lease.address) for lease in self.ipam.gc(valid)}
        assert gone == {number for number, holder in self.held.items() if holder not in valid}
        self.held = {number: holder for number, holder in self.held.items() if number not in gone}

    @rule()
    def forget(self) -> None:
        """Another process goes on: nothing is known but what is in the files."""
        host_local_books._indexes.clear()

    @rule()
    def status(self) -> None:
        try:
            self.ipam.status((self.ranges,))
        except PoolExhausted:
            assert self.expected() is None
        else:
            assert self.expected() is not None

    @invariant()
    def the_files_say_the_same(self) -> None:
        if hasattr(self, "held"):
            leases = {int(one.address): (one.container, one.ifname) for one in self.ipam.leases()}
            assert leases == self.held


TestHostLocal = HostLocalMachine.TestCase
TestHostLocal.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

NAMES = st.one_of(
    st.sampled_from(
        [
            "10.0.0.2",
            "10.0.0.3",
            "10.0.0.4",
            "fd00::2",
            "lock",
            "last_reserved_ip.0",
            "last_reserved_ip.1",
            "10.0.0.02",
        ]
    ),
    st.binary(min_size=1, max_size=20).map(
        lambda raw: os.fsdecode(raw.replace(b"/", b"x").replace(b"\0", b"x"))
    ),
)
CONTENTS = st.one_of(
    st.sampled_from(
        [b"c1\r\neth0", b"c1", b"", b"c1\r\neth0\r\n", b"c2\r\neth0", b"\r\n", b"10.0.0.2", b"fd00::2"]
    ),
    st.binary(max_size=40),
)
KINDS = st.sampled_from(["file", "file", "file", "link", "fifo", "directory", "unreadable"])


@settings(max_examples=300, deadline=None)
@given(found=st.lists(st.tuples(NAMES, CONTENTS, KINDS), max_size=8))
def test_whatever_is_in_the_directory_nothing_else_is_changed_and_no_address_is_given_twice(
    found: list[tuple[str, bytes, str]],
) -> None:
    with tempfile.TemporaryDirectory() as top:
        directory, outside = Path(top) / "n1", Path(top) / "outside"
        directory.mkdir()
        outside.write_bytes(b"c1\r\neth0")
        for name, content, kind in found:
            litter(directory / name, content, kind, outside)
        before = {path.name for path in directory.iterdir()}
        sets = (made(SETS[0]), made([("fd00::/64", "", "", "")]))
        ipam = HostLocal(top, "n1", timeout_s=1.0)
        taken = set()
        for container in ("c1", "c3", "c4"):
            try:
                taken |= {str(one.address.ip) for one in ipam.add(container, "eth0", sets)}
            except DovetailError:
                continue
        assert not taken & before
        leases = ipam.leases()
        assert taken <= {str(lease.address) for lease in leases}
        for call in (lambda: ipam.check("c1", "eth0"), lambda: ipam.status(sets)):
            try:
                call()
            except DovetailError:
                pass
        try:
            ipam.delete("c1", "eth0")
            ipam.gc(set())
        except DovetailError:
            pass
        else:
            assert ipam.leases() == []
        assert outside.read_bytes() == b"c1\r\neth0"
        addresses = {str(lease.address) for lease in leases}
        assert {path.name for path in directory.iterdir()} >= before - addresses


def litter(path: Path, content: bytes, kind: str, outside: Path) -> None:
    if path.name in {".", ".."} or os.path.lexists(path):
        return
    if kind == "link":
        path.symlink_to(outside)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.write_bytes(content)
        if kind == "unreadable":
            path.chmod(0)
