"""The cases, a module a plugin."""

from __future__ import annotations

from differential.case import Case
from differential.cases import bridge

CASES: list[Case] = [case for module in (bridge,) for case in module.CASES]
