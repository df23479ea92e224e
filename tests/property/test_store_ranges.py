"""The coalesced ranges beside a plain set, at both ends of the address space."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_network

import hypothesis.strategies as st
from hypothesis import given, settings

from dovetail.model.pool import Address, Pool
from dovetail.store.sqlite import SqliteStore

WINDOW = 24
STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, WINDOW - 1)), max_size=60)


@given(base=st.sampled_from([0, 2**32 - 8, 2**64, 2**128 - WINDOW]), steps=STEPS)
@settings(max_examples=80, deadline=None)
def test_the_next_free_address_is_what_a_set_would_say(base: int, steps: list[tuple[bool, int]]) -> None:
    store = SqliteStore(":memory:")
    store.put_pool(Pool(id="p", subnet=ip_network("::/0")))
    taken: set[int] = set()

    for take, offset in steps:
        address = IPv6Address(base + offset)
        if take:
            store.put_address(Address(pool_id="p", address=address, kind="endpoint", owner="e"))
            taken.add(offset)
        else:
            store.delete_address("p", address)
            taken.discard(offset)

    last = WINDOW - 1
    for start in range(WINDOW):
        expected = next((base + v for v in range(start, WINDOW) if v not in taken), None)
        assert store.free_from("p", base + start, base + last) == expected
    assert store.count_addresses("p") == len(taken)
    runs = sum(1 for value in taken if value - 1 not in taken)
    assert store._db.row("SELECT count(*) FROM taken") == (runs,)
    store.close()
