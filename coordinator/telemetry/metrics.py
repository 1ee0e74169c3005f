"""One coordinator's own metrics for Prometheus, at ``fedtide run --metrics-port``.

It is a function of the status, which the coordinator makes twice a second for its monitors anyway: a scrape takes
nothing from the merging but the time to print it. Names begin with ``fedtide_coordinator_``, so that they never mix
with those of a monitor that is scraped as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fl_core.broker.connection import Client
from fl_core.broker.server.health import read_lengths
from fl_core.errors import BrokerError
from fl_core.wire.histogram import Histogram
from fl_core.wire.status import Status

PREFIX = "fedtide_coordinator_"
# name, help, and the status' attribute
_GAUGES = (
    ("version", "Merges that the model has had.", "versions"),
    ("buffer_updates", "Admitted updates that wait for a merge.", "buffered"),
    ("buffer_size", "Updates that make a merge.", "buffer_size"),
    ("tasks_out", "Tasks that have not ended.", "out"),
    ("checkpoint_age_seconds", "Age of the newest durable checkpoint.", "checkpoint_age_seconds"),
)
_WORK = (
    ("publish_seconds", "Writing a version to the broker.", "publish"),
    ("evaluate_seconds", "Scoring a version, from the request to the result.", "evaluate"),
    ("checkpoint_seconds", "Writing a checkpoint, beside the merging.", "checkpoint"),
)


class CoordinatorMetrics:
    """One campaign's metrics.

    Args:
        client: for the log's length, asked at each scrape; nobody else uses it.

    Attributes:
        registry: what a ``MetricsServer`` serves.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._status: Status | None = None
        self._shown_at = 0.0
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(_Collector(self))

    def show(self, status: Status) -> None:
        """From now on, scrapes tell this."""
        self._status, self._shown_at = status, time.monotonic()

    def collect(self) -> Iterator[Metric]:
        """All families; none before the first status."""
        status = self._status
        if status is None:
            return
        campaign = status.campaign
        yield from families(status)
        age = GaugeMetricFamily(
            PREFIX + "status_age_seconds", "Since the coordinator's loop last came round.", labels=["campaign"]
        )
        age.add_metric([campaign], max(0.0, time.monotonic() - self._shown_at))
        yield age
        try:
            lengths = read_lengths(self._client, [campaign])[campaign]
        except BrokerError:
            return
        entries = GaugeMetricFamily(PREFIX + "log_entries", "Entries in the update log.", labels=["campaign"])
        entries.add_metric([campaign], lengths.log)
        yield entries
        inbox = GaugeMetricFamily(PREFIX + "inbox_entries", "Sent, and not taken in yet.", labels=["campaign"])
        inbox.add_metric([campaign], lengths.inbox)
        yield inbox


class _Collector(Collector):
    def __init__(self, metrics: CoordinatorMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.collect()


def families(status: Status) -> Iterator[Metric]:
    """A status as Prometheus' families; the campaign is a label of each."""
    campaign = [status.campaign]
    for name, text, key in _GAUGES:
        gauge = GaugeMetricFamily(PREFIX + name, text, labels=["campaign"])
        gauge.add_metric(campaign, float(getattr(status, key)))
        yield gauge
    rejected = CounterMetricFamily(
        PREFIX + "updates_rejected", "Updates that were refused and ended a task.", labels=["campaign", "reason"]
    )
    for reason, count in status.rejected.items():
        rejected.add_metric([*campaign, reason], count)
    ended = CounterMetricFamily(PREFIX + "tasks_ended", "Tasks that ended, by outcome.", labels=["campaign", "outcome"])
    for outcome in ("merged", "expired", "cancelled"):
        ended.add_metric([*campaign, outcome], getattr(status, outcome))
    ended.add_metric([*campaign, "rejected"], status.num_rejected)
    yield from (rejected, ended)
    shown: list[tuple[str, str, Histogram]] = []
    if (timing := status.timing) is not None:
        shown += [
            ("merge_seconds", "Decoding, checking and folding in one update.", timing.parts["merge"]),
            *((name, text, timing.work[key]) for name, text, key in _WORK),
            ("update_bytes", "Encoded sizes of admitted updates.", timing.sizes["update"]),
        ]
    if (staleness := status.staleness_histogram) is not None:
        shown.append(("update_staleness_versions", "Versions that merged updates were behind.", staleness))
    for name, text, histogram in shown:
        family = HistogramMetricFamily(PREFIX + name, text, labels=["campaign"])
        histogram.sample(family, *campaign)
        yield family
