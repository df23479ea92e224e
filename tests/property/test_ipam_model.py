"""The local address driver beside a model that keeps a dict and looks at every address."""

from __future__ import annotations

import itertools
from ipaddress import ip_address, ip_network

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dovetail.errors import AddressInUse, InvalidArgument, PoolExhausted
from dovetail.ipam.local import LocalIpam
from dovetail.model.pool import AddressRequest, PoolRequest
from dovetail.store.sqlite import SqliteStore

POOLS = [
    ("10.0.0.0/28", None),
    ("10.0.0.0/28", "10.0.0.0/30"),
    ("10.0.0.0/28", "10.0.0.8/30"),
    ("10.0.0.0/28", "10.0.0.12/30"),
    ("10.0.0.0/28", "10.0.0.5/32"),
    ("10.0.0.0/28", "10.0.0.0/31"),
    ("255.255.255.240/28", None),
    ("10.0.0.0/30", None),
    ("10.0.0.2/31", None),
    ("10.0.0.2/32", None),
    ("fd00::/124", None),
    ("fd00::/127", None),
    ("fd00::9/128", None),
    ("fd00::/64", None),
    ("fd00::/64", "fd00::fff0/124"),
    ("fd00::/64", "fd00:0:0:0:ffff:ffff:ffff:fff8/125"),
]
OWNERS = st.sampled_from(["a", "b", "c", "docker"])
KINDS = st.sampled_from(["gateway", "aux", "endpoint", "docker"])
NEAR = st.integers(min_value=-2, max_value=17)


class IpamMachine(RuleBasedStateMachine):
    """`held` says who has what; `last` is the last dynamic address."""

    def __init__(self) -> None:
        super().__init__()
        self.store = SqliteStore(":memory:")
        self.ipam = LocalIpam(self.store)

    def teardown(self) -> None:
        self.store.close()

    @initialize(which=st.sampled_from(POOLS))
    def begin(self, which: tuple[str, str | None]) -> None:
        self.subnet = ip_network(which[0])
        self.within = ip_network(which[1]) if which[1] else self.subnet
        self.pool = self.ipam.request_pool(
            PoolRequest(subnet=self.subnet, ip_range=self.within if which[1] else None, owner="n")
        )
        self.held: dict[int, tuple[str, str]] = {}
        self.last: int | None = None
        self.low = int(self.subnet.network_address)
        self.high = int(self.subnet.broadcast_address)
        self.bad = set()
        if self.high - self.low > 1:
            self.bad = {self.low, self.high} if self.subnet.version == 4 else {self.low}

    def ask(self, kind: str, owner: str, value: int | None = None) -> int:
        address = None if value is None else type(self.subnet.network_address)(value)
        request = AddressRequest(kind=kind, owner=owner, address=address)
        interface = self.ipam.request_address(self.pool.id, request)
        assert interface.network == self.subnet
        return int(interface.ip)

    def expected_next(self) -> int | None:
        """Walk the range from the address after the last one given, once around."""
        first, last = int(self.within.network_address), int(self.within.broadcast_address)
        start = first if self.last is None or not first <= self.last < last else self.last + 1
        value = start
        while True:
            if value not in self.held and value not in self.bad:
                return value
            value = first if value == last else value + 1
            if value == start:
                return None

    @rule(kind=st.sampled_from(["endpoint", "docker"]), owner=OWNERS)
    def dynamic(self, kind: str, owner: str) -> None:
        expected = self.expected_next()
        if expected is None:
            with pytest.raises(PoolExhausted):
                self.ask(kind, owner)
            return
        assert self.ask(kind, owner) == expected
        self.held[expected] = (owner, kind)
        self.last = expected

    @rule(owner=OWNERS)
    def gateway(self, owner: str) -> None:
        own = sorted(value for value, holder in self.held.items() if holder == (owner, "gateway"))
        free = [
            v for v in range(self.low, min(self.high, self.low + 99) + 1) if v not in {*self.held, *self.bad}
        ]
        if not own and not free:
            with pytest.raises(PoolExhausted):
                self.ask("gateway", owner)
            return
        value = self.ask("gateway", owner)
        assert value == (own or free)[0]
        self.held[value] = (owner, "gateway")

    @rule(kind=KINDS, owner=OWNERS, offset=NEAR, from_end=st.booleans())
    def static(self, kind: str, owner: str, offset: int, from_end: bool) -> None:
        value = self.high - offset if from_end else self.low + offset
        if not 0 <= value < 2**self.subnet.max_prefixlen:
            return
        if value in self.bad or not self.low <= value <= self.high:
            with pytest.raises(InvalidArgument):
                self.ask(kind, owner, value)
        elif self.held.get(value, (owner, kind)) != (owner, kind):
            with pytest.raises(AddressInUse):
                self.ask(kind, owner, value)
        else:
            assert self.ask(kind, owner, value) == value
            self.held[value] = (owner, kind)

    @rule(owner=OWNERS, offset=NEAR)
    def release(self, owner: str, offset: int) -> None:
        value = min(max(self.low + offset, 0), 2**self.subnet.max_prefixlen - 1)
        self._release(value, owner)

    @rule(data=st.data(), right=st.booleans())
    def release_held(self, data: st.DataObject, right: bool) -> None:
        if not self.held:
            return
        value = data.draw(st.sampled_from(sorted(self.held)))
        self._release(value, self.held[value][0] if right else "somebody else")

    def _release(self, value: int, owner: str) -> None:
        self.ipam.release_address(self.pool.id, type(self.subnet.network_address)(value), owner)
        if self.held.get(value, ("", ""))[0] == owner:
            del self.held[value]

    @invariant()
    def rows_are_the_models(self) -> None:
        rows = self.store.addresses(self.pool.id)
        assert {int(row.address): (row.owner, row.kind) for row in rows} == self.held
        assert [row.address for row in rows] == sorted(row.address for row in rows)

    @invariant()
    def ranges_are_coalesced(self) -> None:
        rows = self.store._db.rows("SELECT first, last FROM taken ORDER BY first")
        ranges = [(int.from_bytes(first, "big"), int.from_bytes(last, "big")) for first, last in rows]
        assert {v for first, last in ranges for v in range(first, last + 1)} == set(self.held)
        assert all(left[1] + 1 < right[0] for left, right in itertools.pairwise(ranges))


TestIpamMachine = IpamMachine.TestCase
TestIpamMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_the_model_covers_both_families() -> None:
    assert {ip_address(subnet.partition("/")[0]).version for subnet, _ in POOLS} == {4, 6}
