"""Traffic control: what the kernel has, and the verbs on it, a part of `Kernel`."""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["Redirect", "Tbf", "TrafficControl"]


class Tbf(NamedTuple):
    """A token bucket, ``tbf``: what a link sends is held to a rate, and waits in a queue.

    rate: bytes a second. burst: bytes that may go at once. limit: bytes that may wait or go at once; what is
    beyond is dropped.
    """

    rate: int
    burst: int
    limit: int


class Redirect(NamedTuple):
    """All that `link` receives is sent on `to` instead; `to` is empty where that has gone, and then it is dropped."""

    link: str
    to: str


class TrafficControl(Protocol):
    """Verbs on the queues of links."""

    def set_tbf(self, link: str, tbf: Tbf) -> None:
        """``tc qdisc replace dev LINK root handle 1: tbf``: hold what the link sends to a rate.

        Another root qdisc goes; a tbf of that handle changes and keeps what waits in it. Raises NotFound (the
        link), Unsupported where this kernel has no tbf, KernelError (a burst that takes less than 1 µs).
        """
        ...

    def delete_tbf(self, link: str) -> None:
        """``tc qdisc del dev LINK root handle 1: tbf``; a missing one, another qdisc, a missing link are no error."""
        ...

    def tbfs(self, link: str = "") -> dict[str, Tbf]:
        """List the root qdiscs that are a tbf by link, of one link or of all; a missing link has none.

        The burst is rounded: the kernel keeps the time that it takes, see `tc.kept`.
        """
        ...

    def add_redirect(self, link: str, to: str) -> None:
        """``tc qdisc add dev LINK ingress`` and a filter that sends on `to` all that the link receives.

        Raises AlreadyExists where the link has an ingress (or clsact) qdisc, NotFound (either link). A filter that
        is refused takes the qdisc with it.
        """
        ...

    def delete_redirect(self, link: str) -> None:
        """``tc qdisc del dev LINK ingress``, with all its filters; without it, or the link, there is nothing to do."""
        ...

    def redirects(self, link: str = "") -> list[Redirect]:
        """List what is redirected as `add_redirect` does, of one link or of all; a missing link has none."""
        ...
