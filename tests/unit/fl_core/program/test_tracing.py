"""Traces: ids that both sides derive, spans of one task in one tree, and a sampler that decides alike everywhere."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("opentelemetry.sdk.trace", reason="the extra `otel` is not installed")

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fl_core.errors import SpecError
from fl_core.program.tracing import Tracer, trace_ids


def _tracer(service: str) -> tuple[Tracer, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    return Tracer(service, SimpleSpanProcessor(exporter)), exporter


def test_two_processes_tell_one_trace() -> None:
    """Spans that a worker and a coordinator record for the same task hang under the root that one of them tells."""
    (worker, of_worker), (coordinator, of_coordinator) = _tracer("w"), _tracer("c")
    worker.record("a", "1-x", "train", 10, 20, outcome="delivered", attempt=1, nothing=None)
    coordinator.record("a", "1-x", "task", 5, 30, error="too_stale")
    coordinator.record("a", "2-x", "merge", 5, 30)
    (train,), (root, other) = of_worker.get_finished_spans(), of_coordinator.get_finished_spans()
    assert (train.context.trace_id, train.parent.span_id) == (root.context.trace_id, root.context.span_id)  # type: ignore[union-attr]
    assert (root.context.trace_id, root.context.span_id) == trace_ids("a", "1-x")
    assert root.parent is None
    assert other.context.trace_id != root.context.trace_id
    assert (train.start_time, train.end_time) == (10, 20)
    assert dict(train.attributes or {}) == {
        "fedtide.campaign": "a", "fedtide.task": "1-x", "fedtide.outcome": "delivered", "fedtide.attempt": 1,
    }  # fmt: skip
    assert root.status.description == "too_stale"
    assert [span.resource.attributes["service.name"] for span in (train, root)] == ["w", "c"]


@given(st.text(max_size=20), st.text(max_size=20))
def test_ids_are_valid_and_of_the_task_alone(campaign: str, task: str) -> None:
    """Never zero, never too wide, the same whenever they are asked for."""
    trace_id, span_id = trace_ids(campaign, task)
    assert 0 < trace_id < 2**128
    assert 0 < span_id < 2**64
    assert trace_ids(campaign, task) == (trace_id, span_id)


def test_a_sampled_task_is_told_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a ratio, each process tells the same tasks, root and children."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    told: list[set[Any]] = []
    for name in ("task", "train"):
        tracer, exporter = _tracer("any")
        for number in range(400):
            tracer.record("a", f"{number}-x", name, 0, 1)
        told.append({span.context.trace_id for span in exporter.get_finished_spans()})
    assert told[0] == told[1]
    assert 50 < len(told[0]) < 150


def test_settings_that_mean_nothing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that is not known here is an error at start-up, not silence; none is none."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "carrier_pigeon")
    with pytest.raises(SpecError, match="carrier_pigeon"):
        Tracer("any")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    Tracer("any").record("a", "1-x", "task", 0, 1)


def test_the_environment_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SERVICE_NAME wins over ours."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "site-7")
    tracer, exporter = _tracer("fedtide-worker")
    tracer.record("a", "1-x", "task", 0, 1)
    assert exporter.get_finished_spans()[0].resource.attributes["service.name"] == "site-7"
