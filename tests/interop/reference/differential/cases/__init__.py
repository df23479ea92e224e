"""The cases, a module a plugin."""

from __future__ import annotations

from differential.case import Case
from differential.cases import bridge, ptp

CASES: list[Case] = [case for module in (bridge, ptp) for case in module.CASES]
