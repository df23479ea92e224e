"""The table is made, told from another and replaced; the user's rules are in it, and a broken file breaks nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dovetail.assembly import build_engine
from dovetail.errors import KernelError
from dovetail.features.ruleset import RULESET, ruleset
from dovetail.kernel.protocol import TableState
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.network import NetworkSpec

WEB = NetworkSpec(name="web")


class NftThatRefuses(RecordingKernel):
    """A host whose nft refuses a text with the word ``nonsense`` in it, and says where."""

    def __init__(self) -> None:
        super().__init__()
        self.checks = 0

    def nft_check(self, ruleset: str) -> str:
        self.checks += 1
        for number, line in enumerate(ruleset.splitlines(), 1):
            if "nonsense" in line:
                return f"{number}:9-12: Error: syntax error, unexpected string"
        return ""


class Town:
    """An engine with its user's files."""

    def __init__(self, directory: Path) -> None:
        self.rules = directory / "nftables.d"
        self.kernel = NftThatRefuses()
        state, run = directory / "state", directory / "run"
        self.engine = build_engine(
            state_dir=str(state), run_dir=str(run), rules_dir=str(self.rules), kernel=self.kernel, store=None
        )

    def write(self, name: str, text: str) -> None:
        self.rules.mkdir(exist_ok=True)
        (self.rules / name).write_text(text)

    def restore(self) -> list[str]:
        return self.engine.restore_firewall()

    def applied(self) -> list[str]:
        """Give the texts that the table was made of since last time."""
        texts = [command for command in self.kernel.commands if "\ntable inet dovetail {" in command]
        self.kernel.commands.clear()
        return texts


@pytest.fixture
def town(tmp_path: Path) -> Town:
    """Give a host with network ``web`` and a port published on it."""
    made = Town(tmp_path)
    made.engine.networks.create(WEB)
    made.applied()
    return made


def test_a_table_that_is_right_is_left_alone(town: Town) -> None:
    assert town.restore() == []
    assert town.applied() == []


def test_a_table_of_another_version_is_replaced_with_its_elements_at_once(
    make_rig: Callable[..., Any],
) -> None:
    rig = make_rig()
    rig.engine.networks.create(WEB)
    rig.attach(publish="8080:80")
    elements = rig.kernel.nft_elements()
    older = RULESET.replace('    comment "', '    # comment "').replace("map source4", "map elsewhere4")
    rig.kernel.nft_apply(older, elements)
    rig.kernel.commands.clear()

    assert rig.engine.restore_firewall() == ["the nftables table is of another version of dovetail"]

    beside, text, after = rig.kernel.commands
    assert text.startswith(f"nft -f - <<'EOF'\n{RULESET.strip()}\n")
    assert "add element inet dovetail publish4 { tcp . 8080 : 172.17.0.2 . 80 }" in text
    assert beside == text.replace("inet dovetail", "inet dovetail_stand_in"), "it keeps the watch meanwhile"
    assert after == "nft 'delete table inet dovetail_stand_in'"
    assert rig.kernel.nft_elements() == elements
    assert rig.engine.restore_firewall() == []


def test_what_nobody_owns_is_not_carried_over(make_rig: Callable[..., Any]) -> None:
    rig = make_rig()
    rig.engine.networks.create(WEB)
    elements = rig.kernel.nft_elements()
    stray = {element._replace(key=("dv-gone",)) for element in elements if element.set == "bridges"}
    rig.kernel.nft_apply("table inet dovetail {\n}\n", elements | stray)

    rig.engine.restore_firewall()

    assert rig.kernel.nft_elements() == elements


def test_a_stand_in_that_a_crash_left_is_taken_away(town: Town) -> None:
    town.kernel.others["dovetail_stand_in"] = TableState("", {})

    assert town.restore() == []

    assert town.kernel.commands == ["nft 'delete table inet dovetail_stand_in'"]


def test_a_network_that_is_made_brings_the_table_of_its_version(town: Town) -> None:
    town.kernel.nft_apply("table inet dovetail {\n    set bridges { type ifname; }\n}\n")
    town.kernel.commands.clear()

    town.engine.networks.create(NetworkSpec(name="other"))

    assert len(town.applied()) == 1
    assert town.restore() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("        iifname @internal drop", "        # iifname @internal drop"),
        lambda text: text.replace("        iifname @internal", "        accept\n        iifname @internal"),
    ],
    ids=["taken out", "added"],
)
def test_rules_that_somebody_changed_are_put_right(town: Town, change: Callable[[str], str]) -> None:
    town.kernel.nft_apply(change(RULESET), town.kernel.nft_elements())
    town.kernel.commands.clear()

    assert town.restore() == ["rules of the nftables table were changed"]
    assert len(town.applied()) == 1


# -- the user's rules -------------------------------------------------------------------------------


def test_the_users_rules_are_loaded_in_the_order_of_their_files(town: Town) -> None:
    town.write("20-more.nft", "ip saddr 198.51.100.0/24 drop\n")
    town.write("10-first.nft", "# ours\nip saddr 203.0.113.9 accept\n")
    town.write("readme.txt", "nonsense")

    assert town.restore() == ["the user's rules have changed"]

    (text,) = town.applied()
    rules = text.partition("chain user {\n")[2].partition("    }")[0]
    assert rules.split("\n")[:-1] == [
        "# '10-first.nft'",
        "# ours",
        "ip saddr 203.0.113.9 accept",
        "# '20-more.nft'",
        "ip saddr 198.51.100.0/24 drop",
    ]
    assert town.restore() == []


def test_a_broken_file_is_named_with_its_line_and_changes_nothing(town: Town) -> None:
    town.write("10-good.nft", "ip saddr 203.0.113.9 drop\n")
    town.restore()
    town.applied()
    town.write("10-good.nft", "ip saddr 203.0.113.9 drop\n\nnonsense\n")

    assert town.restore() == []
    assert town.applied() == [], "the rules that were in force are"
    path = town.rules / "10-good.nft"
    assert town.engine.firewall_problems() == [
        f"the rules of {path} are not in force: line 3: syntax error, unexpected string"
    ]

    town.write("10-good.nft", "ip saddr 203.0.113.10 drop\n")
    assert town.restore() == ["the user's rules have changed"]
    assert town.engine.firewall_problems() == []


def test_a_broken_file_is_left_out_where_the_table_must_be_made(town: Town) -> None:
    town.write("10-broken.nft", "nonsense\n")
    town.write("20-good.nft", "ip saddr 203.0.113.9 drop\n")
    town.kernel.nft_apply("delete table inet dovetail\n")
    town.kernel.commands.clear()

    assert town.restore() == ["the nftables table is missing"]

    (text,) = town.applied()
    assert "nonsense" not in text
    assert "ip saddr 203.0.113.9 drop" in text
    assert town.restore() == [], "and is not tried again and again"
    assert town.applied() == []


def test_a_file_is_checked_once_until_it_changes(town: Town) -> None:
    town.write("10.nft", "nonsense\n")
    for _ in range(3):
        town.restore()
        town.engine.firewall_problems()
    assert town.kernel.checks == 1

    town.write("10.nft", "nonsense again\n")
    town.restore()
    assert town.kernel.checks == 2


def test_rules_that_are_right_each_but_not_together_do_not_keep_the_table_away(town: Town) -> None:
    town.write("10.nft", "ip saddr 203.0.113.9 drop\n")
    town.kernel.nft_apply("delete table inet dovetail\n")
    town.kernel.commands.clear()
    town.kernel.fail(at=1)

    assert town.restore() == ["the nftables table is missing"]
    assert ruleset("").strip() in town.applied()[-1]


def test_a_table_that_cannot_be_replaced_stays_and_nothing_else_does(town: Town) -> None:
    town.kernel.nft_apply("table inet dovetail {\n    set bridges { type ifname; }\n}\n")
    town.kernel.commands.clear()
    town.kernel.fail(at=2)

    with pytest.raises(KernelError):
        town.restore()

    assert town.kernel.commands[-1] == "nft 'delete table inet dovetail_stand_in'"
    assert town.applied() == []


def test_a_file_that_cannot_be_read_is_named(town: Town) -> None:
    town.rules.mkdir()
    (town.rules / "10.nft").write_bytes(b"\xff\xfe")
    (town.rules / "20.nft").symlink_to(town.rules / "nowhere")

    assert town.engine.firewall_problems() == [
        f"the rules of {town.rules}/10.nft are not in force: is not text",
        f"the rules of {town.rules}/20.nft are not in force: cannot be read: No such file or directory",
    ]
