from __future__ import annotations

import io

import pytest

from dovetail.cli.render import Branch, facts, interface, table, tree


def test_columns_are_as_wide_as_their_widest_cell():
    assert table(("A", "LONG"), [("xyz", "1"), ("x", "22")]) == "A    LONG\nxyz  1\nx    22"


def test_facts_without_a_value_are_left_out():
    assert facts({"a": "1", "bcd": "2", "e": ""}, indent=1) == " a    1\n bcd  2"


def test_trees_have_lines_and_in_ascii_other_lines(monkeypatch):
    branch = Branch("root", [Branch("a", [Branch("b")]), Branch("c")])

    assert tree(branch) == "root\n├─ a\n│  └─ b\n└─ c"

    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert tree(branch) == "root\n|- a\n|  `- b\n`- c"


@pytest.mark.parametrize(
    ("ifname", "face", "text"),
    [("eth", "docker", "eth*"), ("eth0", "docker", "eth0"), ("net", "cli", "net"), ("", "cni", "-")],
)
def test_an_interface_that_docker_numbers_is_told_apart(ifname, face, text):
    assert interface(ifname, face) == text
