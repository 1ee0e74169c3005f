"""A coordinator's own metrics: its last status as families, and no more than the age before there is one."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="the extra `metrics` is not installed")

from prometheus_client import generate_latest

from coordinator.telemetry.metrics import PREFIX, CoordinatorMetrics, families
from coordinator.telemetry.staleness_histogram import staleness_histogram
from coordinator.telemetry.timing import Timing
from fl_core.broker import keys
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.wire.status import Status


def _status() -> Status:
    timing = Timing()
    timing.add_update({"train": 0.2}, life_seconds=1.0, log_seconds=0.1, merge_seconds=0.002, num_bytes=4096)
    timing.add_publish(0.004)
    return Status(
        campaign="a", state="running", versions=3, merged=6, expired=1, rejected={"too_stale": 2}, out=4, buffered=1,
        buffer_size=2, staleness_histogram=staleness_histogram([(0, 4), (6, 2)]), timing=timing.export(),
    )  # fmt: skip


def test_a_status_is_families_of_one_campaign() -> None:
    """Gauges, counters by outcome and by reason, and histograms with all that was counted."""
    samples = {
        (
            sample.name.removeprefix(PREFIX),
            *(value for name, value in sample.labels.items() if name != "campaign"),
        ): sample
        for family in families(_status())
        for sample in family.samples
    }
    assert all(sample.labels["campaign"] == "a" for sample in samples.values())
    values = {key: sample.value for key, sample in samples.items()}
    assert (values[("version",)], values[("tasks_out",)], values[("buffer_updates",)]) == (3, 4, 1)
    assert (values[("tasks_ended_total", "rejected")], values[("tasks_ended_total", "merged")]) == (2, 6)
    assert values[("updates_rejected_total", "too_stale")] == 2
    assert values[("merge_seconds_bucket", "0.003")] == values[("publish_seconds_count",)] == 1
    assert (values[("update_bytes_sum",)], values[("update_staleness_versions_bucket", "7.0")]) == (4096, 6)


def test_what_a_status_has_not_is_left_out() -> None:
    """One of another release, without times and staleness, costs those families alone."""
    names = {family.name for family in families(Status(campaign="a", state="running"))}
    assert PREFIX + "version" in names
    assert not any(name.endswith("_seconds") and name != PREFIX + "checkpoint_age_seconds" for name in names)


def test_a_scrape_before_the_first_status_is_empty() -> None:
    """Afterwards it has the age of what is shown and the log's length, as the broker says it at that moment."""
    client: Any = MemoryClient(MemoryServer())
    client.xadd(keys.CampaignKeys("a").log, {"u": "x"})
    client.rpush(keys.CampaignKeys("a").inbox, "x", "y")
    metrics = CoordinatorMetrics(client)
    assert generate_latest(metrics.registry) == b""
    metrics.show(_status())
    page = generate_latest(metrics.registry).decode()
    assert f'{PREFIX}log_entries{{campaign="a"}} 1.0' in page
    assert f'{PREFIX}inbox_entries{{campaign="a"}} 2.0' in page
    assert f'{PREFIX}status_age_seconds{{campaign="a"}}' in page
