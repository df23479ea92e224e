"""Every configuration leaves with our plugins what it leaves with Go's, or the page of differences says why not.

A sample of the cases; all of them, and whether each row of the page is needed, with DIFFERENTIAL=all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from differential.case import Case
from differential.cases import CASES, KEYS
from differential.comparison import Allowed, compare, read_allowed
from differential.hosts import GO, OURS, TwinHosts
from differential.sample import sample
from dovetail.cni.plugins import PLUGINS

pytestmark = [pytest.mark.root, pytest.mark.interop]

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cni-differences.md"
WHOLE = os.environ.get("DIFFERENTIAL") == "all"
CHOSEN = CASES if WHOLE else sample(CASES, KEYS)
EXAMPLES = [
    next(case for case in CHOSEN if case.plugin == plugin) for plugin in (KEYS if WHOLE else ["bridge"])
]


class Table:
    """The rows of the page, and which of them explained something."""

    def __init__(self) -> None:
        self.rows = read_allowed(PAGE)
        self.used: set[Allowed] = set()
        self.passed: set[str] = set()

    def unneeded(self) -> list[Allowed]:
        """Give the rows for plugins whose cases have all been run here, that explained nothing."""
        return [
            row
            for row in self.rows
            if row not in self.used and all(str(case) in self.passed for case in CASES if row.concerns(case))
        ]


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """The table; a row that is not needed any more fails the whole run."""
    rows = Table()
    yield rows
    if WHOLE:
        assert rows.unneeded() == [], f"{PAGE.name} explains what is not there"


def skip_without(twins: TwinHosts, case: Case) -> None:
    lacking = twins.lacks(case)
    if lacking:
        pytest.skip(f"the kernel has no {', no '.join(lacking)}")


@pytest.mark.parametrize("case", EXAMPLES, ids=str)
def test_go_against_go_differs_in_nothing(twins: TwinHosts, case: Case) -> None:
    skip_without(twins, case)

    go, again = twins.run(case, GO)

    assert compare(case, go, again, [])[0] == []


def test_what_differs_is_seen_where_it_is(twins: TwinHosts) -> None:
    plugin: dict[str, Any] = {"type": "bridge", "bridge": "br0"}
    plugin["ipam"] = {"type": "host-local", "subnet": "10.50.0.0/24"}
    case = Case("bridge", "one", (plugin,))
    wider = replace(case, chain=({**plugin, "mtu": 1400, "hairpinMode": True},))

    (steps, _), (others, _) = twins.run(case, GO), twins.run(wider, GO)

    found = {difference.path for difference in compare(case, steps, others, [])[0]}
    ends = {"host/link br0", "host/link <peer of c1 eth0>", "c1/link eth0"}
    assert {path for path in found if path.startswith("ADD c1/") and "sysctl" not in path} == {
        *(f"ADD c1/{end}/mtu" for end in ends),
        "ADD c1/host/link <peer of c1 eth0>/slave_data hairpin",
    }
    assert "ADD c1/c1/sysctl net/ipv6/conf/eth0/mtu" in found


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_ours_leave_what_go_s_leave(twins: TwinHosts, table: Table, case: Case) -> None:
    if case.plugin not in PLUGINS:
        pytest.skip(f"dovetail has no plugin {case.plugin} yet")
    skip_without(twins, case)
    twins.ours.install_ours()
    path = [OURS] if case.types <= PLUGINS.keys() else [OURS, GO]

    go, ours = twins.run(case, *path)

    unexplained, used = compare(case, go, ours, table.rows)
    table.used |= used
    table.passed.add(str(case))
    assert unexplained == [], "\n".join(map(str, unexplained))
