"""Tools that operators have already: Prometheus, an OTLP collector and Celery's own commands see real programs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="the extra `metrics` is not installed")
pytest.importorskip("opentelemetry.proto", reason="the extra `otel` is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from fl_core.program.tracing import trace_ids
from tests.integration.lab import Lab, until


class Collector:
    """A small OTLP receiver: keeps the spans that are posted to it, with the service that told each."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
                for resource in request.resource_spans:
                    names = {a.key: a.value.string_value for a in resource.resource.attributes}
                    spans.extend((names["service.name"], s) for scope in resource.scope_spans for s in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, campaign: str, task: str) -> dict[str, tuple[str, Any]]:
        """The spans of one task by name."""
        trace_id = trace_ids(campaign, task)[0].to_bytes(16)
        return {span.name: (service, span) for service, span in self.spans if span.trace_id == trace_id}


class Watched:
    """A campaign that all tools may look at, with a worker that shows itself and one that does not."""

    def __init__(self, folder: Path) -> None:
        self.lab, self.collector = Lab(folder), Collector()
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url, "OTEL_BSP_SCHEDULE_DELAY": "300"}
        spec = self.lab.spec(stop={"updates": None, "seconds": 120.0}, evaluation={"data": "fl_core.data:digits"})
        run = ["coordinator", "run", str(spec), "--broker", self.lab.url, "--out", str(folder / "run")]
        shows = ["--metrics-port", "0", "--traces"]
        self.coordinator = self.lab.program(*run, *shows, name="coordinator", **environment)
        worker = ["workers", "--broker", self.lab.url, "--data", "fl_core.data:digits", "--threads", "1"]
        self.shown = self.lab.program(
            *worker, "--name", "shown", "--state-dir", str(folder / "shown"), "--celery-events", *shows, name="shown",
            FEDTIDE_EMULATE_DELAY_SECONDS="0.3", **environment,
        )  # fmt: skip
        self.hidden = self.lab.worker("hidden", delay=0.3)
        for program in (self.shown, self.hidden):
            program.wait_for("worker is ready")

    def port(self, program: Any) -> int:
        """Where a program answers Prometheus; it said so in its log."""
        line = until(lambda: next((x for x in program.output.splitlines() if '"event": "metrics"' in x), None))
        address = urllib.parse.urlsplit(json.loads(line)["url"])
        assert address.hostname == "127.0.0.1"
        assert address.port
        return address.port

    def metrics(self, program: Any) -> dict[str, list[tuple[dict[str, str], float]]]:
        """What a program tells Prometheus now."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port(program)}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((sample.labels, sample.value))
        return samples

    def celery(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the command of docs/monitoring.md."""
        command = [sys.executable, "-m", "celery", "-A", "fl_core.broker.operator", "-b", self.lab.url, *arguments]
        root = str(Path(__file__).parents[2])
        return subprocess.run(
            command, cwd=self.lab.folder, capture_output=True, text=True, timeout=seconds, check=False,
            env={**os.environ, "PYTHONPATH": root},
        )  # fmt: skip


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One campaign for all tests of this file."""
    watched = Watched(tmp_path_factory.mktemp("watched"))
    yield watched
    watched.lab.close()
    watched.collector.server.shutdown()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _total(samples: dict[str, list[tuple[dict[str, str], float]]], name: str, **labels: str) -> float:
    return sum(value for found, value in samples.get(name, []) if labels.items() <= found.items())


def test_coordinator_and_worker_answer_prometheus(watched: Watched) -> None:
    """What they tell agrees with the campaign's status, and counters only rise."""
    first = until(
        lambda: (m := watched.metrics(watched.coordinator)) and _total(m, "fedtide_coordinator_version") > 3 and m
    )
    status = watched.lab.ask("status", "trial")
    second = until(
        lambda: (
            (m := watched.metrics(watched.coordinator))
            and _total(m, "fedtide_coordinator_version") >= status["versions"]
            and m
        )
    )
    for name in (
        "merge_seconds_count",
        "publish_seconds_count",
        "update_bytes_count",
        "update_staleness_versions_count",
    ):
        assert 0 < _total(first, f"fedtide_coordinator_{name}") <= _total(second, f"fedtide_coordinator_{name}"), name
    assert _total(second, "fedtide_coordinator_tasks_ended_total", outcome="merged") >= status["merged"]
    assert _total(second, "fedtide_coordinator_evaluate_seconds_count") > 0
    assert _total(second, "fedtide_coordinator_checkpoint_seconds_count") > 0
    assert "fedtide_coordinator_log_entries" in second
    assert _total(second, "process_resident_memory_bytes") > 0

    worker = watched.metrics(watched.shown)
    done = _total(worker, "fedtide_worker_tasks_total", outcome="delivered")
    assert done > 0
    assert _total(worker, "fedtide_worker_part_seconds_count", part="train") == done
    assert _total(worker, "fedtide_worker_part_seconds_sum", part="train") > 0.3 * done
    assert _total(worker, "fedtide_worker_transferred_bytes_total", direction="up") > 0
    assert _total(worker, "fedtide_worker_state") == 1
    assert worker["fedtide_worker_info"][0][0]["worker"] == "shown"
    assert 'event": "metrics' not in watched.hidden.output


def test_a_taken_port_is_one_sentence(watched: Watched) -> None:
    """Exit code 2 before anything was launched."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = str(taken.getsockname()[1])
        spec = watched.lab.spec("other.toml", campaign={"name": "other"})
        refused = watched.lab.run(spec, "--metrics-port", port, out="refused", name="refused")
        worker = watched.lab.worker("refused-worker", "--metrics-port", port)
        for program in (refused, worker):
            assert program.wait(40) == 2
            assert f"--metrics-port {port} on 127.0.0.1 cannot be used" in program.output
            assert "Traceback" not in program.output


def test_a_real_prometheus_scrapes_them(watched: Watched) -> None:
    """deploy/prometheus, told our ports instead of compose's services: every target is up, and their metrics arrive."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    yaml = pytest.importorskip("yaml")
    folder = watched.lab.folder / "prometheus"
    shutil.copytree(Path(__file__).parents[2] / "deploy/prometheus", folder)
    settings = yaml.safe_load((folder / "prometheus.yml").read_text())
    page, own, token = _free_port(), _free_port(), "a-token-of-those-who-watch"
    ports = {"fedtide": page, "fedtide-coordinator": watched.port(watched.coordinator)}
    ports["fedtide-worker"] = watched.port(watched.shown)
    settings["global"]["scrape_interval"] = "500ms"
    settings["scrape_configs"] = [
        {"job_name": job["job_name"], "static_configs": [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]}
        | ({"authorization": {"credentials": token}} if "authorization" in job else {})
        for job in settings["scrape_configs"]
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    asks = ("--port", str(page), "--login", token)
    watched.lab.program("coordinator", "monitor", *asks, "--broker", watched.lab.url, name="monitor")
    storage = f"--storage.tsdb.path={folder / 'data'}"
    arguments = [program, f"--config.file={folder / 'prometheus.yml'}", storage]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*arguments, f"--web.listen-address=127.0.0.1:{own}"], stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:

        def ask(query: str) -> dict[str, float]:
            with contextlib.suppress(OSError):
                asked = urllib.parse.urlencode({"query": query})
                with urllib.request.urlopen(f"http://127.0.0.1:{own}/api/v1/query?{asked}", timeout=5) as answer:
                    rows = json.load(answer)["data"]["result"]
                return {row["metric"].get("job", ""): float(row["value"][1]) for row in rows}
            return {}

        until(lambda: ask("min by (job) (up)") == dict.fromkeys(ports, 1.0))
        for query in (
            "fedtide_coordinator_version",
            "histogram_quantile(0.95, sum by (le) (rate(fedtide_queue_wait_seconds_bucket[1m])))",
            "sum(rate(fedtide_worker_part_seconds_sum[1m]))",
            "fedtide_campaign_version",
        ):
            until(lambda query=query: ask(query))
    finally:
        process.terminate()
        process.wait(20)


def test_one_trace_tells_a_task_from_publish_to_merge(watched: Watched) -> None:
    """Spans of both processes hang under one root and lie within it; nothing travelled for it with the task."""
    names = {"task", "publish", "pull", "train", "encode", "deliver", "admit", "merge"}

    def whole() -> dict[str, tuple[str, Any]] | None:
        for _, span in list(watched.collector.spans):
            told = {a.key: a.value.string_value for a in span.attributes}
            found = watched.collector.of(told["fedtide.campaign"], told["fedtide.task"])
            if found.keys() == names:
                return found
        return None

    found = until(whole)
    _, root = found["task"]
    assert root.parent_span_id == b""
    assert all(span.parent_span_id == root.span_id for name, (_, span) in found.items() if name != "task")
    by_worker = {name for name, (service, _) in found.items() if service == "fedtide-worker"}
    assert by_worker == {"pull", "train", "encode", "deliver"}
    order = [found[name][1] for name in ("publish", "pull", "train", "encode", "deliver", "merge")]
    assert [span.start_time_unix_nano for span in order] == sorted(span.start_time_unix_nano for span in order)
    slack = 50 * 10**6  # the broker's clock is read once a second, to the millisecond
    for span in order:
        assert root.start_time_unix_nano - slack <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano + slack
    assert found["train"][1].end_time_unix_nano - found["train"][1].start_time_unix_nano > 0.3e9
    assert {a.key: a.value.string_value for a in root.attributes}["fedtide.outcome"] == "merged"


def test_celery_s_tools_see_who_shows_itself(watched: Watched) -> None:
    """ping and active find the worker with --celery-events and its task, events tell its tasks; nobody else answers."""
    ping = watched.celery("inspect", "ping", "--json")
    assert ping.returncode == 0, ping.stdout + ping.stderr
    assert json.loads(ping.stdout) == {"fedtide@shown": {"ok": "pong"}}

    def active() -> list[dict[str, Any]]:
        answer = json.loads(watched.celery("inspect", "active", "--json").stdout)
        assert set(answer) == {"fedtide@shown"}
        tasks: list[dict[str, Any]] = answer["fedtide@shown"]
        return tasks

    (task,) = until(active)
    assert task["name"] == "fedtide.train"
    assert task["id"].startswith("trial-")
    assert task["delivery_info"]["routing_key"] == "fedtide.train.default"

    dump = watched.lab.program(
        "celery", "-A", "fl_core.broker.operator", "-b", watched.lab.url, "events", "--dump", name="events",
        PYTHONPATH=str(Path(__file__).parents[2]),
    )  # fmt: skip
    for event in (
        "task received: fedtide.train(trial-",
        "task started: fedtide.train(trial-",
        "task succeeded",
        "heartbeat",
    ):
        dump.wait_for(event, 30)
    assert "fedtide@hidden" not in dump.output


def test_without_the_option_nothing_answers(watched: Watched) -> None:
    """With the showing worker gone, ping finds nobody, though the other one still works; its last spans were sent."""
    until(lambda: any(span.name == "deliver" for _, span in list(watched.collector.spans)))
    watched.shown.send(signal.SIGTERM)
    assert watched.shown.wait(40) == 0
    done = watched.lab.ask("workers", "--name", "hidden")[0]["done"]
    ping = watched.celery("inspect", "ping", "--json")
    assert ping.returncode != 0
    assert "fedtide@" not in ping.stdout
    until(lambda: watched.lab.ask("workers", "--name", "hidden")[0]["done"] > done)
    delivered = {s.trace_id for service, s in watched.collector.spans if s.name == "deliver"}
    pulled = {s.trace_id for service, s in watched.collector.spans if s.name == "pull"}
    assert pulled == delivered
