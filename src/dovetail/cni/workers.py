"""Threads that wait at one listening socket, each serving what it accepted itself.

Why not a thread a call: a new thread costs 0.1 ms, and opens the store anew. Why not one that accepts and hands
over: the handing over costs a switch between threads before the call is read. The kernel wakes one waiting
thread a connection (EPOLLEXCLUSIVE, include/uapi/linux/eventpoll.h).
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable

__all__ = ["Workers"]

_LOG = logging.getLogger("dovetail")
_READY = 2  # how many wait at the socket when nothing happens
_MOST = 128  # at once; what comes beyond waits in the socket's backlog


class Workers:
    """Call `serve` with each connection to `listening`, on as many threads as there are calls at once."""

    def __init__(
        self,
        listening: socket.socket,
        serve: Callable[[socket.socket], None],
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; `begin` is called on each thread as it starts."""
        self._listening = listening
        self._serve = serve
        self._begin = begin
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._waiting = 0
        self._stopping = False

    def run(self) -> None:
        """Accept until `stop`."""
        self._listening.setblocking(False)
        with self._lock:
            for _ in range(_READY):
                self._add()
        poller = select.poll()  # select() knows descriptors up to 1023 only
        poller.register(self._stop_read, select.POLLIN)
        poller.poll()

    def stop(self, timeout_s: float) -> None:
        """Stop accepting, and wait for the calls under way."""
        with self._lock:
            self._stopping = True
            threads = list(self._threads)
        os.write(self._stop_write, b"x")
        deadline = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _add(self) -> None:
        """Start one more; the caller holds the lock."""
        thread = threading.Thread(target=self._work, daemon=True, name="cni")
        self._threads.add(thread)
        self._waiting += 1
        thread.start()

    def _work(self) -> None:
        try:
            self._begin()
            with select.epoll() as poller:
                poller.register(self._listening.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
                poller.register(self._stop_read, select.EPOLLIN)
                while (connection := self._accept(poller)) is not None:
                    with self._lock:
                        self._waiting -= 1
                        if not self._waiting and not self._stopping and len(self._threads) < _MOST:
                            self._add()
                    with connection:
                        self._serve(connection)
                    with self._lock:
                        if self._stopping or self._waiting >= _READY:
                            return
                        self._waiting += 1
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _accept(self, poller: select.epoll) -> socket.socket | None:
        """Wait for a connection; None when it is time to end."""
        while True:
            ready = [number for number, _ in poller.poll()]
            if self._stop_read in ready:
                return None
            try:
                return self._listening.accept()[0]
            except BlockingIOError:  # another thread was quicker
                continue
            except OSError as exc:  # out of descriptors or memory: calls under way may free some
                _LOG.warning("accept failed", extra={"fields": {"error": str(exc)}})
                time.sleep(0.1)
