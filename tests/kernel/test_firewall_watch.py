"""The daemon keeps the firewall as it must be, whoever changes it: another version, an operator, the user's files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dovetail.features.ruleset import RULESET

pytestmark = pytest.mark.root

# What the version before had: no comments, no chain for the user, a set that there is no more.
OLDER = """
table inet dovetail {
    set bridges { type ifname; }
    set same_bridge { type ifname . ifname; }
    set protected { type ifname; }
    map publish4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
    chain forward {
        type filter hook forward priority filter; policy accept;
        iifname != @bridges oifname != @bridges accept
        ct state established,related accept
        iifname . oifname @same_bridge accept
        ct status dnat accept
        oifname @protected drop
    }
    chain output {
        type nat hook output priority -100; policy accept;
        fib daddr type local dnat ip to meta l4proto . th dport map @publish4
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 127.0.0.0/8 oifname @bridges masquerade
    }
}
"""


def wait_for(condition: Callable[[], object], *, what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def served(installation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a host with a daemon, whose container ``c1`` is greeted at the host's port 8080."""
    monkeypatch.setenv("DOVETAIL_RULES_DIR", str(tmp_path / "nftables.d"))
    installation.start()
    installation.cli("network", "create", "web", "--subnet", "10.88.0.0/24")
    installation.add("c1", ports=[(8080, 80)])
    with installation.greeting("c1", 80):
        assert installation.greeted(8080) == "c1"
        yield installation


def table(installation: Any) -> str:
    return str(installation.host.run("nft", "list", "table", "inet", "dovetail", check=False))


def elements(installation: Any) -> dict[str, Any]:
    """Give the elements of each set, as nft has them."""
    entries = [
        e.get("set") or e.get("map") for e in installation.host.nft("list", "table", "inet", "dovetail")
    ]
    return {entry["name"]: json.dumps(entry["elem"]) for entry in entries if entry and "elem" in entry}


def test_a_daemon_of_a_new_version_replaces_the_table_of_an_older_one(served: Any) -> None:
    whole, owned = table(served), elements(served)
    served.stop()
    lines = [
        f"add element inet dovetail {name} {text(e)}" for name, e in owned.items() if f" {name} " in OLDER
    ]
    served.host.run("nft", "flush", "ruleset")
    served.host.run("nft", "-f", "-", stdin=OLDER + "\n".join(lines) + "\n")
    assert served.greeted(8080) == "c1", "the older one did the same"

    served.start()

    assert table(served) == whole
    assert elements(served) == owned
    assert served.greeted(8080) == "c1"
    assert "the nftables table is of another version of dovetail" in served.log()


def text(element: str) -> str:
    def write(part: Any) -> str:
        match part:
            case {"concat": parts}:
                return " . ".join(map(write, parts))
            case [key, data]:
                return f"{write(key)} : {write(data)}"
            case _:
                return f'"{part}"' if isinstance(part, str) and part.startswith("dv-") else str(part)

    return f"{{ {', '.join(map(write, json.loads(element)))} }}"


@pytest.mark.parametrize(
    "command",
    [
        "flush ruleset",
        "delete table inet dovetail",
        "flush table inet dovetail",
        "flush chain inet dovetail publish",
        "insert rule inet dovetail forward accept",
    ],
)
def test_what_an_operator_does_to_the_table_is_undone(served: Any, command: str) -> None:
    whole = table(served)

    served.host.run("nft", command)

    wait_for(lambda: table(served) == whole, what="the table is as it was")
    assert served.greeted(8080) == "c1"


def test_rules_that_somebody_adds_to_the_users_chain_by_hand_stay(served: Any) -> None:
    served.host.run("nft", "add rule inet dovetail user ip saddr 203.0.113.7 drop")
    served.host.run("nft", "flush chain inet dovetail opened")

    wait_for(lambda: "@opened4 accept" in table(served), what="what is ours is back")
    assert "203.0.113.7" not in table(served), "it goes with the table, when that is replaced"

    served.host.run("nft", "add rule inet dovetail user ip saddr 203.0.113.7 drop")
    served.cli("network", "create", "more")
    assert "203.0.113.7" in table(served)


def test_the_users_files_are_in_force_after_a_start_and_a_broken_one_is_told_of(
    served: Any, tmp_path: Path
) -> None:
    directory = tmp_path / "nftables.d"
    directory.mkdir()
    (directory / "10-block.nft").write_text("ip saddr 203.0.113.0/24 counter drop\n")
    (directory / "20-broken.nft").write_text("ip saddr 198.51.100.0/24 drop\nip saddr 10.0.0.1 nonsense\n")
    served.stop()
    served.host.run("nft", "flush", "ruleset")

    served.start()

    wait_for(lambda: "203.0.113.0/24" in table(served), what="the good file is in force")
    assert "198.51.100.0/24" not in table(served)
    assert served.greeted(8080) == "c1", "and nothing else suffers"
    wait_for(lambda: "20-broken.nft are not in force: line 2: syntax error" in served.log(), what="a warning")

    (directory / "20-broken.nft").write_text("ip saddr 198.51.100.0/24 drop\n")
    served.stop()
    served.start()
    assert "198.51.100.0/24" in table(served)


def test_the_text_that_is_applied_is_the_one_of_this_version(served: Any) -> None:
    comment = next(line.strip() for line in RULESET.splitlines() if line.strip().startswith("comment"))

    assert comment in table(served)
