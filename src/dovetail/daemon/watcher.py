"""Notices when another program takes something out of the firewall, and puts ours back.

``nft flush ruleset`` and a restart of dockerd (which sets FORWARD to DROP) are seen as nftables
notifications (NFNLGRP_NFTABLES, include/uapi/linux/netfilter/nfnetlink.h); what comes within a
fifth of a second is answered once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading

from dovetail.engine.engine import Engine
from dovetail.errors import DovetailError, one_sentence

__all__ = ["FirewallWatcher"]

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_NFNLGRP_NFTABLES = 7
_QUIET_S = 0.2
_log = logging.getLogger("dovetail")


class FirewallWatcher(threading.Thread):
    """A thread that restores the firewall after foreign changes."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(name="firewall-watcher", daemon=True)
        self._engine = engine
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
        )
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        self._socket.setblocking(False)
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)

    def run(self) -> None:
        """Wait for changes, let them settle, restore."""
        while True:
            ready, _, _ = select.select([self._socket.fileno(), self._stop_read], [], [])
            if self._stop_read in ready:
                return
            self._drain()
            try:
                for sentence in self._engine.restore_firewall():
                    _log.info("firewall restored", extra={"fields": {"what": sentence}})
            except DovetailError as exc:
                _log.warning("firewall not restored", extra={"fields": {"error": one_sentence(exc)}})

    def stop(self) -> None:
        """End the thread."""
        os.write(self._stop_write, b"x")
        self.join(timeout=5)

    def _drain(self) -> None:
        while select.select([self._socket], [], [], _QUIET_S)[0]:
            with contextlib.suppress(OSError):  # ENOBUFS: some were lost, which changes nothing
                self._socket.recv(1 << 16)
