"""A broker that loses what it had: the campaign is written again from memory, and no task is merged twice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from coordinator.storage.history import read_history
from fl_core.broker import scripts
from fl_core.broker.bulk import blobs
from fl_core.broker.inbox import packed
from fl_core.broker.keys import train_queue
from fl_core.broker.scripts import Script
from fl_core.wire.history import MergeLine
from tests.unit.coordinator.loop.led import WORKER, Led
from tests.unit.coordinator.stand_ins import LAYOUT


def _merged_tasks(led: Led) -> list[int]:
    lines = [line for line in read_history(led.folder.history) if isinstance(line, MergeLine)]
    return [task for line in lines for task in line.tasks]


def _flush(led: Led) -> None:
    led.client.flushall()


def _lose_the_log(led: Led) -> None:
    led.client.delete(led.broker.keys.log)


def _lose_the_tasks(led: Led) -> None:
    led.client.delete(led.broker.keys.open_tasks, led.broker.keys.owners)


def _overwrite(led: Led) -> None:
    led.client.delete(led.broker.keys.head)
    led.client.set(led.broker.keys.head, b"somebody else's")


@pytest.mark.parametrize("lose", [_flush, _lose_the_log, _lose_the_tasks, _overwrite])
def test_a_campaign_outlives_what_its_broker_loses(tmp_path: Path, lose: Callable[[Led], None]) -> None:
    """Everything, its log, the rows of its tasks, or a key that somebody else has written over."""
    led = Led(tmp_path, stop={"updates": 40}, dispatch={"concurrency": 4, "lease_seconds": 2.0})
    led.between = lambda waits: lose(led) if waits in (20, 60) else None
    summary = led.run()
    assert (summary["state"], summary["merged"]) == ("finished", 40)
    tasks = _merged_tasks(led)
    assert len(tasks) == len(set(tasks)) == 40


def test_a_server_that_went_back_in_time_is_brought_forward(tmp_path: Path) -> None:
    """A snapshot, a replica, a power cut: it knows of fewer commits than this process has sent."""
    led, kept = Led(tmp_path, stop={"updates": 40}, dispatch={"concurrency": 4, "lease_seconds": 2.0}), []

    def between(waits: int) -> None:
        space: Any = led.server.keyspace
        if waits == 20:
            kept.append(copy.deepcopy(space.__dict__))
        elif waits == 40:
            now_ms = space.now_ms
            space.__dict__.update(kept.pop())
            space.now_ms = now_ms

    led.between = between
    assert led.run()["merged"] == 40
    tasks = _merged_tasks(led)
    assert len(tasks) == len(set(tasks)) == 40


def test_what_an_earlier_release_has_left_at_the_server_is_taken_over(tmp_path: Path) -> None:
    """Claims by task alone, which block nobody, and an update in the log whose payload has the device's name last."""
    led = Led(tmp_path, stop={"updates": 12}, dispatch={"concurrency": 4})
    names, left = led.broker.keys, []

    def leave(task: Any, head: Any) -> None:
        payload = np.ones(LAYOUT.num_elements, np.float32).tobytes()
        former = f"{task.task_id}.{task.attempt}.{WORKER}"
        update = led.update(task, head, payload, blob=former, num_chunks=1)
        blobs.put(led.client, names.blob(former), payload)
        led.client.xadd(names.log, {"u": update.to_bytes()})
        led.client.hset(names.owners, task.task_id, f"{task.attempt}|1700000000000|1|{WORKER}")
        left.append(former)
        if len(left) == 4:
            led.answer = led.deliver

    led.answer = leave
    summary = led.run()
    assert (summary["state"], summary["merged"], summary["surplus"]) == ("finished", 12, {})
    assert len(_merged_tasks(led)) == len(set(_merged_tasks(led))) == 12
    assert not led.client.exists(*(names.blob(name) + ":0" for name in left))


def test_what_waits_in_the_inbox_is_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its device has answered and is silent for longer than its lease: nothing is issued again, and all is merged."""
    led = Led(tmp_path, dispatch={"concurrency": 4, "lease_seconds": 2.0})
    waiting: list[int] = []

    def between(waits: int) -> None:
        monkeypatch.setattr("fl_core.broker.inbox.MAX_MOVED", 0 if 20 <= waits < 400 else 64)
        waiting.append(led.client.llen(led.broker.keys.inbox))

    led.between = between
    summary = led.run()
    assert waiting.count(4) > 300
    assert (summary["merged"], summary["reissued"]) == (20, 0)
    assert "duplicate" not in summary["surplus"]


# -- answers and messages that lead nowhere ------------------------------------------------------------------------


def _answer_unreadably(led: Led, task: Any) -> None:
    """As a worker of another release would: the task is marked as answered, and the entry ends nothing."""
    names = led.broker.keys
    deliver = Script(led.client, scripts.DELIVER)
    deliver(
        [names.inbox, names.bell, names.open_tasks, names.pins, names.incarnation, names.said(WORKER)],
        [task.task_id, task.attempt, packed("u", b"of another release")],
    )


def test_an_answer_that_cannot_be_read_is_no_answer(tmp_path: Path) -> None:
    """The task is issued again, but not for ever: after ``dispatch.max_attempts`` it has expired."""
    led = Led(tmp_path, dispatch={"concurrency": 1, "max_attempts": 2}, stop={"updates": 4})

    def answer(task: Any, head: Any) -> None:
        if task.task_id.startswith("1-") or (task.task_id.startswith("2-") and task.attempt == 1):
            _answer_unreadably(led, task)
        else:
            led.deliver(task, head)

    led.answer = answer
    summary = led.run()
    assert (summary["merged"], summary["expired"], summary["reissued"]) == (4, 1, 2)
    assert summary["surplus"] == {"malformed": 3}


def test_messages_that_somebody_swallows_are_rung_for_and_named(tmp_path: Path) -> None:
    """Something takes a campaign's messages and claims nothing: its tasks go out again, and once somebody is told."""
    led = Led(tmp_path)
    led.answer = None

    def between(waits: int) -> None:
        if waits < 400:
            led.client.delete(train_queue("default"))
        elif waits == 400:
            led.answer = led.deliver

    led.between = between
    with structlog.testing.capture_logs() as told:
        assert led.run()["merged"] == 20
    said = [row["event"] for row in told]
    assert said.count("tasks are rung for again and again, and nobody claims them") == 1
    assert said.count("ringing again") > 3
