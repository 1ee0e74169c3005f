"""One worker's metrics for Prometheus at ``fedtide-worker --metrics-port``, read from memory that the child shares.

The parent answers, so that a scrape never waits for the training. Labels are state, outcome, part and direction; the
worker's name is in ``fedtide_worker_info`` alone, so that nothing else grows with the fleet.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from fl_core.wire.states import WORKER_STATES
from workers.child.tally import PARTS, Tally
from workers.pulse import Pulse


class WorkerMetrics(Collector):
    """One worker's metrics.

    Args:
        name: the worker's.
        pulse: what its child does.
        tally: what its tasks came to.
    """

    def __init__(self, name: str, pulse: Pulse, tally: Tally) -> None:
        self._name = name
        self._pulse = pulse
        self._tally = tally

    def registry(self) -> CollectorRegistry:
        """What a ``MetricsServer`` serves."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return registry

    def collect(self) -> Iterator[Metric]:
        """All families."""
        vitals = self._pulse.read()
        info = InfoMetricFamily("fedtide_worker", "Who this is.")
        info.add_metric([], {"worker": self._name, "device": vitals.device})
        state = GaugeMetricFamily("fedtide_worker_state", "1 for what it does now.", labels=["state"])
        for each in WORKER_STATES:
            state.add_metric([each], float(vitals.state == each))
        tasks = CounterMetricFamily("fedtide_worker_tasks", "Tasks that ended, by outcome.", labels=["outcome"])
        for outcome, count in self._tally.outcomes().items():
            tasks.add_metric([outcome], count)
        moved = CounterMetricFamily(
            "fedtide_worker_transferred_bytes", "Update (up) and model (down) bytes.", labels=["direction"]
        )
        moved.add_metric(["up"], vitals.bytes_up)
        moved.add_metric(["down"], vitals.bytes_down)
        parts = HistogramMetricFamily(
            "fedtide_worker_part_seconds", "Parts of a task: fetch, train, encode, deliver.", labels=["part"]
        )
        for part in PARTS:
            self._tally.histogram(part).sample(parts, part)
        yield from (info, state, tasks, moved, parts)
