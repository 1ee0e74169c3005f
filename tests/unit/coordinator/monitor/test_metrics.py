"""The metrics that are exported are those that the dashboard and the alerts ask for, by the field's conventions."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="the extra `monitor` is not installed")
yaml = pytest.importorskip("yaml")

from prometheus_client import generate_latest  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from coordinator.monitor.metrics import exposition  # noqa: E402
from coordinator.monitor.observer import Observer, Snapshot  # noqa: E402
from coordinator.telemetry.metrics import CoordinatorMetrics  # noqa: E402
from coordinator.telemetry.staleness_histogram import staleness_histogram  # noqa: E402
from coordinator.telemetry.timing import WORK, Timing  # noqa: E402
from fl_core.broker.connection import connect  # noqa: E402
from fl_core.broker.overview.queues import QueueState  # noqa: E402
from fl_core.broker.server.health import Health, Lengths  # noqa: E402
from fl_core.wire.status import Status  # noqa: E402

DEPLOY = Path(__file__).parents[4] / "deploy"


def _status(**changes: Any) -> Status:
    timing = Timing()
    timing.add_update(
        {"train": 0.2, "queue": 5.0}, life_seconds=6.0, log_seconds=0.1, merge_seconds=0.001, num_bytes=4096
    )
    timing.add_publish(0.004)
    timing.add_evaluation(0.5)
    told = {
        "campaign": "a", "state": "running", "versions": 3, "issued": 12, "merged": 6, "rejected": {"too_stale": 2},
        "expired": 1,
        "cancelled": 0, "out": 3, "reissued": 1, "surplus": {"duplicate": 1}, "bytes_up": 10, "bytes_down": 20,
        "claimed": 2, "concurrency": 4, "buffered": 1, "buffer_size": 2, "checkpoint_age_seconds": 3.0,
        "live_workers": 2, "final_accuracy": 0.5, "final_loss": 1.0, "written_ms": 999_000,
        "staleness_histogram": staleness_histogram([(0, 4), (6, 2)]).to_map(), "timing": timing.export().to_map(),
    }  # fmt: skip
    return replace(Status.from_map({**told, **changes}), writer="host:1:ab")


def _exported(**changes: Any) -> dict[str, list[tuple[dict[str, str], float]]]:
    observer = Observer(connect("redis://127.0.0.1:1/0"))
    observer.snapshot = Snapshot(
        sequence=1,
        seen_at=1000.0,
        health=Health("9", 5, 700, 1000, 3),
        campaigns={"a": _status(**changes), "silent": Status()},
        lengths={"a": Lengths(7, 2, 3)},
        queues=[QueueState("gpu", 2, 1.5, 10, 8)],
    )
    return _samples(exposition(observer))


def _samples(page: bytes) -> dict[str, list[tuple[dict[str, str], float]]]:
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def _exported_by_programs(client: Any) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What a coordinator and a worker tell by themselves."""
    from workers.metrics import WorkerMetrics
    from workers.pulse import Pulse

    coordinator, pulse = CoordinatorMetrics(client), Pulse()
    assert generate_latest(coordinator.registry) == b""
    coordinator.show(_status())
    worker = WorkerMetrics("w", pulse, pulse.tally).registry()
    return _samples(generate_latest(coordinator.registry) + generate_latest(worker))


def _asked_for() -> set[str]:
    dashboard = json.loads((DEPLOY / "grafana/dashboards/fedtide.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [variable["definition"] for variable in dashboard["templating"]["list"]]
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    queries += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    assert len(queries) > 20
    return {name for query in queries for name in re.findall(r"\bfedtide_\w+", query)}


def test_dashboard_and_alerts_ask_only_for_what_is_exported(client: Any) -> None:
    """Every metric name in a query exists, on the monitor, a coordinator or a worker, and on one of them alone."""
    monitor, programs = set(_exported()), set(_exported_by_programs(client))
    assert _asked_for() <= monitor | programs
    assert not monitor & programs


def test_everything_exported_is_used(client: Any) -> None:
    """A metric that neither the dashboard nor an alert shows is one that nobody would notice to be wrong."""
    exported = _exported() | _exported_by_programs(client)
    unseen = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported}
    unseen -= {re.sub(r"_(bucket|sum|count)$", "", name) for name in _asked_for()}
    assert unseen == {
        "fedtide_monitor_age_seconds", "fedtide_broker_clients", "fedtide_campaign_workers", "fedtide_buffer_updates",
        "fedtide_buffer_size",
    }  # fmt: skip


def test_values_are_those_of_the_status() -> None:
    """The ledger adds up in the metrics, histograms are cumulative, and labels name what they count."""
    samples = _exported()
    ended = {labels["outcome"]: value for labels, value in samples["fedtide_tasks_ended_total"]}
    assert ended == {"merged": 6, "rejected": 2, "expired": 1, "cancelled": 0}
    ((_, issued),), ((_, out),) = samples["fedtide_tasks_issued_total"], samples["fedtide_tasks_out"]
    assert issued == sum(ended.values()) + out
    buckets = {labels["le"]: value for labels, value in samples["fedtide_update_staleness_versions_bucket"]}
    assert (buckets["0.0"], buckets["5.0"], buckets["7.0"], buckets["+Inf"]) == (4, 4, 6, 6)
    assert samples["fedtide_update_staleness_versions_sum"][0][1] == 12
    parts = {labels["part"]: value for labels, value in samples["fedtide_update_part_seconds_sum"]}
    assert parts["queue"] == 5.0
    assert parts["send"] == pytest.approx(0.8)
    assert samples["fedtide_queue_oldest_age_seconds"] == [({"queue": "gpu"}, 1.5)]
    assert samples["fedtide_status_age_seconds"] == [({"campaign": "a"}, 1.0)]


def test_a_coordinator_tells_what_its_status_says(client: Any) -> None:
    """Its own histograms, counters by reason and outcome, all with the campaign, and the log's length as it is now."""
    client.xadd("fedtide:c:{a}:log", {"u": b"1"})
    samples = _exported_by_programs(client)
    coordinator = {name: rows for name, rows in samples.items() if name.startswith("fedtide_coordinator_")}
    assert all(labels["campaign"] == "a" for rows in coordinator.values() for labels, _ in rows)
    assert coordinator["fedtide_coordinator_log_entries"][0][1] == 1
    assert coordinator["fedtide_coordinator_updates_rejected_total"] == [({"campaign": "a", "reason": "too_stale"}, 2)]
    assert [coordinator[f"fedtide_coordinator_{name}_seconds_count"][0][1] for name in WORK] == [1, 1, 0]
    assert coordinator["fedtide_coordinator_update_bytes_sum"][0][1] == 4096
    assert coordinator["fedtide_coordinator_version"][0][1] == 3


def test_jobs_scrape_the_ports_that_compose_opens() -> None:
    """deploy/prometheus names services and ports as docker-compose.yml does."""
    compose = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())["services"]
    settings = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in settings["scrape_configs"]}
    (monitor,) = jobs["fedtide"]["static_configs"][0]["targets"]
    (coordinator,) = jobs["fedtide-coordinator"]["static_configs"][0]["targets"]
    (workers,) = jobs["fedtide-worker"]["dns_sd_configs"]
    assert monitor == f"monitor:{compose['monitor']['command'][-1].split()[-1]}"
    assert coordinator == f"coordinator:{compose['coordinator']['environment']['FEDTIDE_METRICS_PORT']}"
    assert set(workers["names"]) == {name for name in compose if name.startswith("worker-")}
    for name in ["coordinator", *workers["names"]]:
        assert compose[name]["environment"]["FEDTIDE_METRICS_HOST"] == "0.0.0.0"
    for name in workers["names"]:
        assert compose[name]["environment"]["FEDTIDE_METRICS_PORT"] == str(workers["port"])


def test_ended_campaigns_leave_after_a_while() -> None:
    """A campaign that ended long ago takes no labels any more."""
    assert "fedtide_campaign_version" in _exported(state="finished", written_ms=900_000)
    assert "fedtide_campaign_version" not in _exported(state="finished", written_ms=1000)


def test_there_are_six_alerts_that_say_what_to_do() -> None:
    """Each has a severity, a sentence and advice."""
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    assert len(rules) == 6
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["description"]


@pytest.mark.parametrize("arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")])
def test_promtool_accepts_the_rules(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Prometheus' own tool reads the configuration, and each alert fires when it should and only then.

    It looks for the file with the login's token, which is there in a container alone.
    """
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    folder = shutil.copytree(DEPLOY / "prometheus", tmp_path / "prometheus")
    text = (folder / "prometheus.yml").read_text()
    (file,) = re.findall("credentials_file: (.*)", text)
    (folder / "prometheus.yml").write_text(text.replace(file, "alerts.yml"))
    done = subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
