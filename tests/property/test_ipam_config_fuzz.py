"""Any JSON as the configuration of host-local and static: values, or one of our refusals."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from dovetail.cni.errors import CniError
from dovetail.cni.folded import Folded
from dovetail.cni.plugins.ipam_config import data_dir, read_host_local, read_static
from dovetail.errors import DovetailError, one_sentence

ADDRESSES = st.sampled_from(
    [
        "10.0.0.1",
        "10.0.0.2/24",
        "fd00::1",
        "fd00::1/64",
        "::ffff:10.0.0.1",
        "fe80::1%eth0",
        "fe80::1%eth0/64",
        "1.1",
        "",
    ]
)
SUBNETS = st.sampled_from(
    [
        "10.0.0.0/24",
        "10.0.0.0/29",
        "10.1.0.0/16",
        "fd00::/64",
        "fd00::/125",
        "::ffff:0:0/96",
        "0.0.0.0/0",
        "10.0.0.0/33",
    ]
)
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), ADDRESSES, SUBNETS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def or_junk(wanted: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(wanted, wanted, wanted, JUNK)


RANGE = {key: or_junk(ADDRESSES) for key in ("rangeStart", "rangeEnd", "gateway")} | {
    "subnet": or_junk(SUBNETS)
}
SETS = or_junk(
    st.lists(or_junk(st.lists(or_junk(st.fixed_dictionaries({}, optional=RANGE)), max_size=3)), max_size=3)
)
ROUTE = {"dst": or_junk(SUBNETS), "gw": or_junk(ADDRESSES)} | dict.fromkeys(
    ("mtu", "priority", "table", "scope"), JUNK
)
IPS = or_junk(st.lists(or_junk(ADDRESSES), max_size=3))
IPAM = st.fixed_dictionaries(
    {},
    optional=RANGE
    | {
        "ranges": SETS,
        "routes": or_junk(st.lists(or_junk(st.fixed_dictionaries({}, optional=ROUTE)), max_size=2)),
        "addresses": or_junk(
            st.lists(
                or_junk(
                    st.fixed_dictionaries(
                        {}, optional={"address": or_junk(ADDRESSES), "gateway": or_junk(ADDRESSES)}
                    )
                ),
                max_size=3,
            )
        ),
        "dns": JUNK,
        "dataDir": JUNK,
    },
)
CONFIG = st.fixed_dictionaries(
    {"ipam": or_junk(IPAM)},
    optional={
        "runtimeConfig": or_junk(st.fixed_dictionaries({}, optional={"ips": IPS, "ipRanges": SETS})),
        "args": or_junk(
            st.fixed_dictionaries({}, optional={"cni": or_junk(st.fixed_dictionaries({"ips": IPS}))})
        ),
    },
)
ARGS = st.dictionaries(
    st.sampled_from(["IP", "GATEWAY", "X", "IgnoreUnknown"]), st.one_of(ADDRESSES, st.text(max_size=8))
)


@settings(max_examples=500, deadline=None)
@given(config=CONFIG, args=ARGS, version=st.sampled_from(["0.2.0", "1.0.0"]))
def test_any_configuration_is_read_or_refused_in_one_sentence(
    config: dict[str, Any], args: dict[str, str], version: str
) -> None:
    for call in (
        lambda: read_host_local(Folded(config), version=version, args=args),
        lambda: read_static(Folded(config), version=version, args=args),
        lambda: data_dir(Folded(config)),
    ):
        try:
            call()
        except (CniError, DovetailError) as exc:
            sentence = one_sentence(exc)
            assert sentence
            assert "\n" not in sentence
            assert len(sentence) < 2000
