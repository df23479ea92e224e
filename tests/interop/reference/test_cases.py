"""The cases are enough: of each plugin thirty, every key, every family and version."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from differential.case import VERSIONS, Case
from differential.cases import CASES, KEYS
from differential.sample import keys_of, sample

LOWEST = {"vrf": "0.3.1", "firewall": "0.4.0", "bandwidth": "0.3.0"}  # as VERSION of Debian's 1.1.1 says


def cases_of(plugin: str) -> list[Case]:
    return [case for case in CASES if case.plugin == plugin]


def test_each_case_has_a_name_of_its_own() -> None:
    assert [name for name, times in Counter(map(str, CASES)).items() if times > 1] == []


@pytest.mark.parametrize("plugin", KEYS)
def test_each_plugin_has_thirty_cases(plugin: str) -> None:
    assert len(cases_of(plugin)) >= 30


@pytest.mark.parametrize("plugin", KEYS)
def test_each_key_is_in_a_case(plugin: str) -> None:
    used = {key for case in cases_of(plugin) for key in keys_of(case)}

    assert set(KEYS[plugin]) - used == set()


def test_the_sample_has_each_key_and_is_small() -> None:
    chosen = sample(CASES, KEYS)

    assert {(case.plugin, key) for case in chosen for key in keys_of(case)} >= {
        (plugin, key) for plugin, keys in KEYS.items() for key in keys
    }
    assert {case.plugin for case in chosen} == {case.plugin for case in CASES}
    assert len(chosen) < len(CASES) / 5


@pytest.mark.parametrize("plugin", KEYS)
def test_each_version_is_in_a_case(plugin: str) -> None:
    first = VERSIONS.index(LOWEST.get(plugin, VERSIONS[0]))

    assert set(VERSIONS[first:]) - {case.version for case in cases_of(plugin)} == set()


@pytest.mark.parametrize("plugin", sorted(KEYS.keys() - {"loopback"}))
def test_each_family_is_in_a_case(plugin: str) -> None:
    texts = [json.dumps(case.document()) for case in cases_of(plugin)]

    assert any("10.50.0." in text and "fd50::" not in text for text in texts)
    assert any("fd50::" in text and "10.50.0." not in text for text in texts) or plugin == "tuning"
    assert any("fd50::" in text and "10.50.0." in text for text in texts)
