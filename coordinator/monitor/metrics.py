"""The metrics that Prometheus scrapes: base units, counters end in ``_total``, and no label grows with the fleet.

Everything is read from the broker by the observer, so one monitor covers all campaigns, and a scrape costs the broker
nothing. Labels are campaign, queue, state, outcome, reason, part and direction; at most the newest campaigns appear.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from coordinator.monitor.members import MEMBER_STATES
from coordinator.monitor.observer import Observer, Snapshot
from coordinator.monitor.views import worker_counts
from fl_core.broker.overview.queues import WAIT_BOUNDS_SECONDS
from fl_core.wire.histogram import Histogram
from fl_core.wire.states import SILENT, STATES, WORKER_STATES
from fl_core.wire.status import Status

MAX_LABELLED_CAMPAIGNS = 50
# An ended campaign stays for so long: the last scrape must see how it ended.
ENDED_SECONDS = 900.0


def exposition(observer: Observer) -> bytes:
    """The page that Prometheus reads, in its text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_FromObserver(observer))
    return generate_latest(registry)


class _FromObserver(Collector):
    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def collect(self) -> Iterable[Metric]:
        seen = self._observer.snapshot
        yield from _of_broker(seen, up=not self._observer.trouble())
        yield from _of_queues(seen)
        yield from _of_workers(seen)
        yield from _of_campaigns(seen)


def _of_broker(seen: Snapshot, *, up: bool) -> Iterator[Metric]:
    yield GaugeMetricFamily("fedtide_broker_up", "1 if the broker answered the last look, just now.", float(up))
    age = max(0.0, time.time() - seen.seen_at)
    yield GaugeMetricFamily("fedtide_monitor_age_seconds", "Age of what is shown here.", age)
    if seen.health is None:
        return
    yield GaugeMetricFamily("fedtide_broker_memory_bytes", "Memory that the broker uses.", seen.health.memory_bytes)
    yield GaugeMetricFamily(
        "fedtide_broker_max_memory_bytes", "The broker's limit, 0 for none.", seen.health.max_memory_bytes
    )
    yield GaugeMetricFamily("fedtide_broker_clients", "Connections to the broker.", seen.health.clients)


def _of_queues(seen: Snapshot) -> Iterator[Metric]:
    depth = GaugeMetricFamily("fedtide_queue_depth", "Tasks that wait in a queue.", labels=["queue"])
    oldest = GaugeMetricFamily("fedtide_queue_oldest_age_seconds", "Age of the oldest task.", labels=["queue"])
    published = CounterMetricFamily("fedtide_queue_published", "Tasks put on a queue.", labels=["queue"])
    claimed = CounterMetricFamily("fedtide_queue_claimed", "Tasks that workers took from it.", labels=["queue"])
    waits = HistogramMetricFamily("fedtide_queue_wait_seconds", "From issued to claimed.", labels=["queue"])
    for queue in seen.queues:
        Histogram(WAIT_BOUNDS_SECONDS, list(queue.wait_counts), queue.wait_seconds).sample(waits, queue.name)
        depth.add_metric([queue.name], queue.depth)
        oldest.add_metric([queue.name], queue.oldest_seconds)
        published.add_metric([queue.name], queue.published)
        claimed.add_metric([queue.name], queue.claimed)
    yield from (depth, oldest, published, claimed, waits)


def _of_workers(seen: Snapshot) -> Iterator[Metric]:
    workers = GaugeMetricFamily("fedtide_workers", "Registered workers by state.", labels=["state"])
    counts = worker_counts(seen.workers)
    for state in (*WORKER_STATES, SILENT):
        workers.add_metric([state], counts.get(state, 0))
    yield workers
    if seen.members.listed:
        members = GaugeMetricFamily("fedtide_members", "Members of the federation by state.", labels=["state"])
        standings = seen.members.counts()
        for state in MEMBER_STATES:
            members.add_metric([state], standings.get(state, 0))
        yield members


def _of_campaigns(seen: Snapshot) -> Iterator[Metric]:
    shown: dict[str, Status] = {}
    for campaign, status in seen.campaigns.items():
        recent = seen.seen_at - (status.written_ms or 0) / 1000 < ENDED_SECONDS
        if status.state and (not status.is_over or recent) and len(shown) < MAX_LABELLED_CAMPAIGNS:
            shown[campaign] = status
    yield from _counters(shown)
    yield from _gauges(shown, seen)
    yield from _histograms(shown)


def _counters(shown: Mapping[str, Status]) -> Iterator[Metric]:
    issued = CounterMetricFamily("fedtide_tasks_issued", "Tasks issued.", labels=["campaign"])
    ended = CounterMetricFamily("fedtide_tasks_ended", "Tasks that ended, by outcome.", labels=["campaign", "outcome"])
    reissued = CounterMetricFamily("fedtide_tasks_reissued", "Further attempts of tasks.", labels=["campaign"])
    rejected = CounterMetricFamily(
        "fedtide_updates_rejected", "Updates that were refused and ended a task.", labels=["campaign", "reason"]
    )
    surplus = CounterMetricFamily(
        "fedtide_updates_surplus", "Updates that answered no open task.", labels=["campaign", "reason"]
    )
    transferred = CounterMetricFamily(
        "fedtide_transferred_bytes", "Update (up) and model (down) bytes.", labels=["campaign", "direction"]
    )
    for name, status in shown.items():
        issued.add_metric([name], status.issued)
        for outcome in ("merged", "expired", "cancelled"):
            ended.add_metric([name, outcome], getattr(status, outcome))
        ended.add_metric([name, "rejected"], status.num_rejected)
        reissued.add_metric([name], status.reissued)
        for reason, count in status.rejected.items():
            rejected.add_metric([name, reason], count)
        for reason, count in status.surplus.items():
            surplus.add_metric([name, reason], count)
        transferred.add_metric([name, "up"], status.bytes_up)
        transferred.add_metric([name, "down"], status.bytes_down)
    yield from (issued, ended, reissued, rejected, surplus, transferred)


# name, help, and the status' attribute
_PLAIN_GAUGES = (
    ("fedtide_campaign_version", "Merges that the model has had.", "versions"),
    ("fedtide_tasks_out", "Tasks that have not ended.", "out"),
    ("fedtide_tasks_claimed", "Tasks that a worker has in hand.", "claimed"),
    ("fedtide_campaign_concurrency", "Tasks that may be out at once.", "concurrency"),
    ("fedtide_buffer_updates", "Admitted updates that wait for a merge.", "buffered"),
    ("fedtide_buffer_size", "Updates that make a merge.", "buffer_size"),
    ("fedtide_checkpoint_age_seconds", "Age of the newest durable checkpoint.", "checkpoint_age_seconds"),
    ("fedtide_campaign_workers", "Live workers on the campaign's queues.", "live_workers"),
    ("fedtide_campaign_accuracy_ratio", "Accuracy of the newest version that was evaluated.", "final_accuracy"),
    ("fedtide_campaign_loss", "Loss of the newest version that was evaluated.", "final_loss"),
)
_PRIVACY_GAUGES = (
    ("fedtide_privacy_epsilon", "What the device that has spent most has spent.", "epsilon"),
    ("fedtide_privacy_budget_epsilon", "What no device may pass.", "budget"),
    ("fedtide_privacy_releases", "Merges whose noisy sums were made.", "releases"),
    ("fedtide_privacy_devices_spent", "Devices with too little left for a fresh update.", "spent"),
    ("fedtide_privacy_devices_resting", "Devices that wait for a later version.", "resting"),
)


def _gauges(shown: Mapping[str, Status], seen: Snapshot) -> Iterator[Metric]:
    for metric, text, key in _PLAIN_GAUGES:
        family = GaugeMetricFamily(metric, text, labels=["campaign"])
        for name, status in shown.items():
            if (value := getattr(status, key)) is not None:
                family.add_metric([name], float(value))
        yield family
    for metric, text, key in _PRIVACY_GAUGES:
        family = GaugeMetricFamily(metric, text, labels=["campaign"])
        for name, status in shown.items():
            if status.privacy is not None:
                family.add_metric([name], float(getattr(status.privacy, key)))
        yield family
    scores = GaugeMetricFamily(
        "fedtide_campaign_metric", "Metrics of the newest version that was evaluated.", labels=["campaign", "metric"]
    )
    for name, status in shown.items():
        for metric_name, scored in (status.metrics or {}).items():
            if scored.final is not None:
                scores.add_metric([name, metric_name], float(scored.final))
    yield scores
    state = GaugeMetricFamily("fedtide_campaign_state", "1 for the state it is in.", labels=["campaign", "state"])
    led = GaugeMetricFamily("fedtide_coordinator_up", "1 if a coordinator holds the lease.", labels=["campaign"])
    age = GaugeMetricFamily("fedtide_status_age_seconds", "Since the coordinator's last word.", labels=["campaign"])
    entries = GaugeMetricFamily("fedtide_log_entries", "Entries in the update log.", labels=["campaign"])
    parked = GaugeMetricFamily("fedtide_quarantine_entries", "Refused updates that are kept.", labels=["campaign"])
    inbox = GaugeMetricFamily("fedtide_inbox_entries", "Sent, and not taken in yet.", labels=["campaign"])
    for name, status in shown.items():
        for each in STATES:
            state.add_metric([name, each], float(status.state == each))
        led.add_metric([name], float(bool(status.writer)))
        if status.written_ms is not None:
            age.add_metric([name], max(0.0, seen.seen_at - status.written_ms / 1000))
        if (lengths := seen.lengths.get(name)) is not None:
            entries.add_metric([name], lengths.log)
            parked.add_metric([name], lengths.parked)
            inbox.add_metric([name], lengths.inbox)
    yield from (state, led, age, entries, parked, inbox)


def _histograms(shown: Mapping[str, Status]) -> Iterator[Metric]:
    staleness = HistogramMetricFamily(
        "fedtide_update_staleness_versions", "Versions that merged updates were behind.", labels=["campaign"]
    )
    parts = HistogramMetricFamily(
        "fedtide_update_part_seconds",
        "Parts of an update's life: queue, fetch, train, encode, send, log, merge.",
        labels=["campaign", "part"],
    )
    work = {
        "publish": HistogramMetricFamily("fedtide_publish_seconds", "Writing a version.", labels=["campaign"]),
        "evaluate": HistogramMetricFamily("fedtide_evaluate_seconds", "Scoring a version.", labels=["campaign"]),
    }
    for name, status in shown.items():
        if status.staleness_histogram is not None:
            status.staleness_histogram.sample(staleness, name)
        if (timing := status.timing) is not None:
            for part, histogram in timing.parts.items():
                histogram.sample(parts, name, part)
            for kind, family in work.items():
                timing.work[kind].sample(family, name)
    yield from (staleness, parts, *work.values())
