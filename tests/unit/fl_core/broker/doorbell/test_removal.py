"""Doorbells are taken off queues by campaign, over a broker's twin."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import redis
from structlog.testing import capture_logs

from fl_core.broker.doorbell import dropped, removal
from fl_core.broker.doorbell.message import is_of, ring_commands
from fl_core.broker.doorbell.removal import remove_doorbells
from fl_core.broker.keys import QUEUE_COUNTS, train_queue
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.wire.messages import TaskCall


def _ring(client: redis.Redis, campaign: str, numbers: Iterable[int]) -> None:
    calls = [TaskCall(campaign=campaign, task_id=f"{n}-ab", attempt=1, queue="default") for n in numbers]
    for command in ring_commands(calls, 1_700_000_000_000):
        client.execute_command(*command)


def test_a_campaign_s_own_go_and_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page from the oldest on, in their order; also those of a campaign whose name begins the same."""
    monkeypatch.setattr(removal, "_PAGE", 4)
    client = MemoryClient(MemoryServer())
    for number in range(9):
        _ring(client, "mine", [number])
        _ring(client, "mine-2", [number])
    assert client.hget(QUEUE_COUNTS, "default:published") == b"18"
    before = client.lrange(train_queue("default"), 0, -1)
    remove_doorbells(client, "mine", ["default", "empty"], limit=100)
    assert client.lrange(train_queue("default"), 0, -1) == [bell for bell in before if is_of("mine-2", bell)]


def test_what_was_dropped_is_told_at_first_each_and_then_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood does not fill a disk."""
    counted = dropped.Dropped()
    with capture_logs() as told:
        for _ in range(1000):
            counted.add("default", "no doorbell")
    assert [line["dropped_so_far"] for line in told] == [*range(1, 9)]
    monkeypatch.setattr(dropped, "_TOLD_SECONDS", 0.0)
    with capture_logs() as told:
        counted.add("default", "no doorbell")
    assert [line["dropped_so_far"] for line in told] == [1001]
