"""Metrics in Prometheus text, served at ``/metrics`` of the API socket."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from dovetail import __version__
from dovetail.engine.engine import Engine
from dovetail.engine.trace import Step

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)


class Metrics:
    """What an engine did, and how much it holds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._registry = CollectorRegistry()
        self._operations = Counter(
            "dovetail_operations_total",
            "Finished operations",
            ("face", "name", "outcome"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "dovetail_operation_seconds",
            "Duration",
            ("face", "name"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._held = Gauge("dovetail_objects", "Objects in the store", ("kind",), registry=self._registry)
        self._addresses = Gauge(
            "dovetail_pool_addresses_used", "Addresses held", ("pool",), registry=self._registry
        )
        info = Gauge("dovetail_build_info", "Version", ("version",), registry=self._registry)
        info.labels(__version__).set(1)

    def operation(self, step: Step) -> None:
        """Count a finished root step; a sink for the tracer."""
        self._operations.labels(step.layer, step.name, "error" if step.error else "ok").inc()
        self._seconds.labels(step.layer, step.name).observe(step.duration_ms / 1000)

    def text(self) -> bytes:
        """Give everything as Prometheus text."""
        engine = self._engine
        for kind, number in (
            ("network", len(engine.networks.all())),
            ("endpoint", len(engine.endpoints.all())),
            ("sandbox", len(engine.sandboxes.all())),
        ):
            self._held.labels(kind).set(number)
        self._addresses.clear()
        for pool in engine.addresses.pools():
            self._addresses.labels(str(pool.subnet)).set(engine.addresses.used(pool.id))
        return generate_latest(self._registry)
