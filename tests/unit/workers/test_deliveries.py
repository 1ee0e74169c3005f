"""Updates of an earlier life are delivered once, and looked after like a task in hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.tasks import TaskBroker
from fl_core.errors import BrokerUnavailable, TrainingStopped
from fl_core.wire.digest import digest
from fl_core.wire.messages import ModelUpdate
from workers import deliveries as module
from workers.deliveries import Deliveries
from workers.kept import Kept
from workers.settings import WorkerSettings
from workers.store.outbox import Outbox

UPDATE = ModelUpdate(
    campaign="digits-1", task_id="1-ab", attempt=1, worker="pi", base_version=0, num_examples=1, sends="delta",
    codec="fp32", layout_digest=digest(b""), payload_bytes=7, payload_digest=digest(b"payload"), blob="", num_chunks=0,
    bytes_down=0, metrics={}, seconds={},
)  # fmt: skip


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deliveries:
    monkeypatch.setattr(module, "connect", lambda url: MemoryClient(MemoryServer()))
    settings = WorkerSettings(broker="redis://127.0.0.1:1/0", data="a:b", name="pi", state_dir=tmp_path)
    return Deliveries(settings, Kept())


def _seen(work: Deliveries, monkeypatch: pytest.MonkeyPatch, *results: bool | Exception) -> list[str]:
    """What was said to be in hand at each delivery."""
    held, left = [], list(results)

    def deliver(broker: TaskBroker, update: ModelUpdate, payload: bytes, *, begun_before: bool) -> bool:
        assert (payload, begun_before) == (b"payload", True)
        held.append(work._kept.holding)
        result = left.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(TaskBroker, "deliver", deliver)
    return held


def test_what_lies_there_is_delivered_and_gone(
    work: Deliveries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker's is left alone."""
    work.look()
    assert not work.is_any_left
    outbox = Outbox(tmp_path)
    outbox.put(UPDATE, b"payload")
    others = outbox.put(replace(UPDATE, task_id="2-ab", worker="gpu"), b"payload")
    held = _seen(work, monkeypatch, True)
    work.look()
    assert work.is_any_left
    work.deliver()
    assert held == ["digits-1/1-ab#1"]
    assert work._kept.holding == ""
    assert outbox.paths() == [others]
    assert not work.is_any_left


def test_what_cannot_be_delivered_now_stays(work: Deliveries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is tried again; nothing is said to be in hand meanwhile."""
    outbox = Outbox(tmp_path)
    outbox.put(UPDATE, b"payload")
    work.look()
    held = _seen(work, monkeypatch, BrokerUnavailable("away"), False)
    with pytest.raises(BrokerUnavailable):
        work.deliver()
    assert (work._kept.holding, work.is_any_left, len(outbox.paths())) == ("", True, 1)
    work.deliver()
    assert (len(held), outbox.paths()) == (2, [])


def test_one_that_nobody_waits_for_any_more_is_withdrawn(
    work: Deliveries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes at the broker go too."""
    withdrawn: list[ModelUpdate] = []
    monkeypatch.setattr(TaskBroker, "withdraw", lambda broker, update: withdrawn.append(update))
    Outbox(tmp_path).put(UPDATE, b"payload")
    work.look()
    _seen(work, monkeypatch, TrainingStopped())
    work.deliver()
    assert (withdrawn, Outbox(tmp_path).paths()) == ([UPDATE], [])


def test_bytes_that_nobody_waits_for_stop_moving() -> None:
    """The watching thread says so, and the thread that sends hears it."""
    kept = Kept()
    kept.holding = "digits-1/1-ab#1"
    kept.note_moved()
    assert kept.moved_at > 0
    kept.recall("digits-1/2-ab#1")
    kept.note_moved()
    kept.recall(kept.holding)
    with pytest.raises(TrainingStopped):
        kept.note_moved()
