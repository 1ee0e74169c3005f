"""What pages are told: sorted, paged and bounded, also for ten thousand workers."""

from __future__ import annotations

import time

import pytest
import redis

from coordinator.monitor import observer as observing
from coordinator.monitor import views
from coordinator.monitor.observer import Snapshot
from coordinator.monitor.track import Track
from fl_core.broker import keys
from fl_core.broker.overview.roster import IDLE_BEAT_SECONDS, PATIENCE_SECONDS, Presence, Roster
from fl_core.wire.feed_lines import MergesLine, WorkerLine
from fl_core.wire.messages import Beat


def _worker(name: str, silent_seconds: float = 0.5, queue: str = "default") -> Presence:
    beat = Beat(
        worker=name, state="idle", queues=(queue,), holding="", host="h", pid=1, started_ms=1, threads=1, device="cpu",
        num_done=1, num_failed=0, bytes_up=1, bytes_down=1,
    )  # fmt: skip
    return Presence(beat, silent_seconds)


def _page(seen: Snapshot, track: Track | None = None, **changes: object) -> dict[str, object]:
    asked = {"queues": None, "page": 0, "size": 25, "sort": "worker", "search": "", **changes}
    return views.worker_page(seen, track, **asked)  # type: ignore[arg-type]


def test_ten_thousand_workers_are_paged_quickly() -> None:
    """A page of the table takes a fraction of the 200 ms that a first byte may take, and the last page exists."""
    seen = Snapshot(workers=[_worker(f"w{n:05}") for n in range(10_000)], workers_seen_at=time.time())
    started = time.process_time()
    page = _page(seen, page=10**6, size=10**6)
    assert time.process_time() - started < 1.0
    assert page["total"] == 10_000
    assert page["page"] == 49
    assert len(page["rows"]) == views.MAX_PAGE_SIZE  # type: ignore[arg-type]
    assert page["rows"][-1]["worker"] == "w09999"  # type: ignore[index]


def test_order_and_search() -> None:
    """Either direction, what is not known last, and only names that contain what was typed."""
    track = Track()
    rows = {"a": (2, 8, 1.0), "b": (1, 1, 9.0)}
    track.add([MergesLine(seconds=1.0, version=1, merged=3, updates=3, merges=1, staleness=((3, 3),), workers=rows)])
    seen = Snapshot(workers=[_worker(name) for name in ("c", "a")], workers_seen_at=time.time())

    def names(sort: str, search: str = "") -> list[str]:
        return [row["worker"] for row in _page(seen, track, sort=sort, search=search)["rows"]]  # type: ignore[attr-defined]

    assert names("worker") == ["a", "b", "c"]
    assert names("-staleness") == ["a", "b", "c"]
    assert names("staleness") == ["b", "a", "c"]
    assert names("worker", search="b") == ["b"]
    assert sorted(names("no such column")) == ["a", "b", "c"]


def test_silent_workers_are_told_from_live_ones() -> None:
    """Silent for longer than it promised, whatever the last beat said; off the register but known: gone."""
    silent = _worker("b", IDLE_BEAT_SECONDS + PATIENCE_SECONDS + 1)
    seen = Snapshot(workers=[_worker("a"), silent], workers_seen_at=time.time())
    assert views.worker_counts(seen.workers) == {"idle": 1, "silent": 1}
    track = Track()
    track.add([WorkerLine(seconds=1.0, worker="z", event="left")])
    states = {row["worker"]: row["state"] for row in _page(seen, track)["rows"]}  # type: ignore[attr-defined]
    assert states == {"a": "idle", "b": "silent", "z": "gone"}


def test_a_queue_counts_more_workers_than_are_listed(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server counts them: what is listed is a part of a large fleet."""
    monkeypatch.setattr(observing, "MAX_WORKERS", 2)
    client.hset(keys.QUEUE_COUNTS, "default:published", 1)
    for number in range(5):
        Roster(client).beat(_worker(f"w{number}").beat)
    observer = observing.Observer(client)
    seen = observer.poll()
    (row,) = views.queue_rows(observer, seen)
    assert len(seen.workers) == 2
    assert (row["queue"], row["workers"], row["busy"]) == ("default", 5, 0)
