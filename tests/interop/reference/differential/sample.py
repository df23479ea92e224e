"""The cases that `make test` runs: one in twelve by its name, and one for each key that these leave out."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence

from differential.case import Case

_ONE_IN = 12


def keys_of(case: Case) -> set[str]:
    """Give the keys that reach the plugin, capabilities as the runtime config that they become."""
    text = json.dumps([case.chain, case.capabilities, case.capabilities_of])
    found = set(re.findall(r'"([A-Za-z0-9]+)":', text))
    return found | ({"runtimeConfig"} if case.capabilities or case.capabilities_of else set())


def sample(cases: Sequence[Case], keys: Mapping[str, Sequence[str]]) -> list[Case]:
    """Choose of all plugins' `cases`, the same in each run; `keys` has those of each plugin."""
    chosen = {str(case) for case in cases if zlib.crc32(str(case).encode()) % _ONE_IN == 0}
    for plugin, names in keys.items():
        its = [case for case in cases if case.plugin == plugin]
        left = set(names).difference(*(keys_of(case) for case in its if str(case) in chosen))
        if not any(str(case) in chosen for case in its):
            chosen.add(str(its[0]))
        while left:
            most = max(its, key=lambda case: len(keys_of(case) & left))
            chosen.add(str(most))
            left -= keys_of(most)
    return [case for case in cases if str(case) in chosen]
