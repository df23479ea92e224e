"""What the resolver counts, in plain numbers: whoever writes a metrics page reads them when it is asked.

Only the resolver's thread counts, and any thread may read: each number is right, if not all of the same moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

__all__ = ["Counters", "Sample"]

_CODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")  # RFC 1035 §4.1.1


class Sample(NamedTuple):
    """One number as Prometheus has it. A counter's name is without ``_total``, which the writer adds."""

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    value: int
    labels: tuple[tuple[str, str], ...] = ()


class Counters:
    """The numbers of one resolver."""

    def __init__(self) -> None:
        """Start at nothing.

        received: messages by transport, UDP and TCP. answered: by response code, of our own memory and of others.
        dropped: got no answer (malformed, or it could not be sent). truncated: answers cut to the asker's size.
        busy: refused as too much was asked of others at once. upstream_silent, upstream_failed: attempts that had no
        answer in time, or an error. spoofed: datagrams of an upstream's address that answer nothing that was asked.
        """
        self.received = [0, 0]
        self.answered = [0] * 16
        self.from_memory = 0
        self.dropped = 0
        self.truncated = 0
        self.forwarded = 0
        self.busy = 0
        self.in_flight = 0
        self.upstream_silent = 0
        self.upstream_failed = 0
        self.spoofed = 0
        self.connections = 0
        self.faults = 0

    def samples(self) -> Iterator[Sample]:
        """Give all numbers; those of one name follow each other."""
        for transport, value in zip(("udp", "tcp"), self.received, strict=True):
            yield Sample(
                "dovetail_dns_queries",
                "Questions by transport.",
                "counter",
                value,
                (("transport", transport),),
            )
        for code, value in enumerate(self.answered):
            if value or code < len(_CODES):
                name = _CODES[code] if code < len(_CODES) else str(code)
                yield Sample(
                    "dovetail_dns_answers", "Answers by response code.", "counter", value, (("rcode", name),)
                )
        for name, text, value in (
            ("answers_from_memory", "Answers that nobody else was asked for.", self.from_memory),
            ("dropped", "Messages that got no answer.", self.dropped),
            ("truncated", "Answers cut to the size that the asker takes.", self.truncated),
            ("forwarded", "Questions sent on to other servers.", self.forwarded),
            ("forward_refused", "Questions refused because too many were under way.", self.busy),
            ("upstream_timeouts", "Attempts that a server did not answer in time.", self.upstream_silent),
            (
                "upstream_failures",
                "Attempts that failed, or were answered SERVFAIL or REFUSED.",
                self.upstream_failed,
            ),
            ("upstream_spoofed", "Datagrams of servers that answer no question of ours.", self.spoofed),
            ("faults", "Errors of the resolver's own, each in the log.", self.faults),
        ):
            yield Sample(f"dovetail_dns_{name}", text, "counter", value)
        yield Sample(
            "dovetail_dns_in_flight", "Questions that wait for other servers.", "gauge", self.in_flight
        )
        yield Sample("dovetail_dns_connections", "TCP connections of askers.", "gauge", self.connections)
