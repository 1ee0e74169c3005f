"""A broker that loses what it had: the campaign is written again from memory, and no task is merged twice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.storage.history import read_history
from fl_core.wire.history import MergeLine
from tests.unit.coordinator.loop.led import Led


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
