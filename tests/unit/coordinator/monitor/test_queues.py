"""`fedtide queues` and `fedtide workers`: rates over a moment, tasks in hand per queue, and who has fallen silent."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from coordinator.monitor import queues
from coordinator.monitor.queues import look_at_queues, look_at_workers
from fl_core.broker import keys
from fl_core.broker.overview.roster import Roster
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.wire.messages import Beat


def _beat(worker: str, holding: str = "") -> Beat:
    return Beat(
        worker=worker, state="training" if holding else "idle", queues=("gpu",), holding=holding, host="h", pid=1,
        started_ms=1, threads=2, device="cpu", num_done=3, num_failed=1, bytes_up=10, bytes_down=20,
    )  # fmt: skip


def test_rates_and_tasks_in_hand(
    client: redis.Redis, broker_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was published and claimed between two looks, by their distance; a silent worker holds nothing."""
    roster = Roster(client)
    roster.beat(_beat("busy", "digits-1/1-a#1"))
    roster.beat(_beat("idle"))
    roster.beat(_beat("dead", "digits-1/2-b#1"))
    (entry,) = (each for each in client.zrange(keys.DEVICES, 0, -1) if each.startswith(b"dead "))
    client.zadd(keys.DEVICES, {entry: 1})
    client.hset(keys.QUEUE_COUNTS, mapping={"gpu:published": 10, "gpu:claimed": 4})
    now = [100.0]

    def work(seconds: float) -> None:
        client.hincrby(keys.QUEUE_COUNTS, "gpu:published", 6)
        client.hincrby(keys.QUEUE_COUNTS, "gpu:claimed", 2)
        now[0] += 2.0

    monkeypatch.setattr(queues.time, "sleep", work)
    monkeypatch.setattr(queues.time, "monotonic", lambda: now[0])
    (row,) = look_at_queues(broker_server.url)
    assert (row["queue"], row["arrivals_per_second"], row["departures_per_second"]) == ("gpu", 3.0, 1.0)
    assert row["in_flight"] == 1
    rows: dict[str, dict[str, Any]] = {each["worker"]: each for each in look_at_workers(broker_server.url)}
    assert {name: each["state"] for name, each in rows.items()} == {
        "busy": "training", "idle": "idle", "dead": "silent"
    }  # fmt: skip
    assert (rows["busy"]["done"], rows["busy"]["bytes_down"], rows["dead"]["alive"]) == (3, 20, False)
