"""What the daemon counts, as Prometheus text on ``/metrics`` of the API socket."""

from __future__ import annotations

import platform
from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

import dovetail
from dovetail.engine.engine import Engine
from dovetail.engine.trace import Step

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus text exposition format
_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 20.0)
_FACES = frozenset({"docker", "cni", "cli"})


class Metrics:
    """Counts operations as the tracer tells of them, and what is there when it is asked."""

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._operations = Counter(
            "dovetail_operations",
            "Operations by face, name and outcome.",
            ("face", "operation", "outcome"),
            registry=self._registry,
        )
        self._durations = Histogram(
            "dovetail_operation_duration_seconds",
            "How long operations took.",
            ("face", "operation"),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._registry.register(_Inventory(engine))

    def sink(self, step: Step) -> None:
        """Count one finished root step of the tracer."""
        if step.layer not in _FACES:
            return
        outcome = "error" if step.error else "ok"
        self._operations.labels(step.layer, step.name, outcome).inc()
        self._durations.labels(step.layer, step.name).observe(step.duration_ms / 1000)

    def render(self) -> bytes:
        """Write the text."""
        return generate_latest(self._registry)


class _Inventory(Collector):
    """Reads the store when it is scraped: no gauge to keep right."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> list[Metric]:
        """Describe nothing, so that registering does not read the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        engine = self._engine
        info = InfoMetricFamily("dovetail_build", "What this daemon is.")
        info.add_metric([], {"version": dovetail.__version__, "python": platform.python_version()})
        yield info
        networks = GaugeMetricFamily("dovetail_networks", "Networks by driver.", labels=["driver"])
        for driver, count in sorted(Tally(n.driver for n in engine.networks.all()).items()):
            networks.add_metric([driver], count)
        yield networks
        endpoints = GaugeMetricFamily(
            "dovetail_endpoints", "Endpoints by face and status.", labels=["face", "status"]
        )
        for labels, count in sorted(Tally((e.owner.face, e.status) for e in engine.endpoints.all()).items()):
            endpoints.add_metric(list(labels), count)
        yield endpoints
        yield GaugeMetricFamily("dovetail_sandboxes", "Sandboxes.", value=len(engine.sandboxes.all()))
        pools = engine.addresses.pools()
        yield GaugeMetricFamily("dovetail_pools", "Address pools held.", value=len(pools))
        used = GaugeMetricFamily("dovetail_addresses_used", "Addresses held, by pool.", labels=["pool"])
        for pool in sorted(pools, key=lambda each: str(each.subnet)):
            used.add_metric([str(pool.subnet)], engine.addresses.used(pool.id))
        yield used
