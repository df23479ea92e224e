"""The daemon, with the clock of its leases ahead of the time by what a file says: ``daemon_ahead.py FILE ARGUMENTS…``.

FILE holds seconds; when it changes, the keeper looks. A second word in it is how long a server is asked.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from pathlib import Path
from typing import Any

from dovetail.ipam import dhcp_parts
from dovetail.ipam.dhcp.leases import Leases
from dovetail.ipam.dhcp.machine import REAL_CLOCK, Clock
from dovetail.main import main

_FILE = Path(sys.argv.pop(1))
_STARTED: list[Leases] = []
_AHEAD = Clock(now=lambda: REAL_CLOCK.now() + _ahead()[0], wall=lambda: REAL_CLOCK.wall() + _ahead()[0])


def _ahead() -> list[float]:
    return [float(word) for word in _FILE.read_text(encoding="ascii").split()]


def _leases(on_event: Any) -> Leases:
    _STARTED.append(Leases(on_event, clock=_AHEAD))
    return _STARTED[-1]


def _watch() -> None:
    seen = _ahead()
    while True:
        time.sleep(0.01)
        now = _ahead()
        if now != seen:
            seen = now
            for leases in _STARTED:
                with contextlib.suppress(OSError):  # it has been closed
                    leases.wake()


setattr(dhcp_parts, "Leases", _leases)  # noqa: B010
setattr(dhcp_parts, "_ASK_S", _ahead()[1])  # noqa: B010
threading.Thread(target=_watch, daemon=True).start()
main()
