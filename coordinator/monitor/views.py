"""The monitor's answers to pages and scripts, as plain JSON types, from what the observer has read."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from coordinator.monitor.members import identity_row, in_words
from coordinator.monitor.observer import Observer, Snapshot
from coordinator.monitor.track import Track, WorkerPast
from coordinator.telemetry.goals import nearest_goal
from coordinator.telemetry.units import scores
from fl_core.broker.overview.roster import Presence
from fl_core.wire.histogram import Histogram
from fl_core.wire.states import steering
from fl_core.wire.status import Status

MAX_PAGE_SIZE = 200

Row = dict[str, Any]

# What grows with the fleet is for those who read a summary.
_TOO_LONG = ("merged_by_worker",)
# An overview's columns: what a list of a hundred campaigns needs of each status.
_OVERVIEW = (
    "campaign", "state", "stop_reason", "strategy", "versions", "issued", "merged", "rejected", "expired", "cancelled",
    "out",
    "final_accuracy", "best_accuracy", "final_loss", "metrics", "recent_updates_per_second", "live_workers", "claimed",
    "concurrency", "wall_seconds", "writer", "name",
)  # fmt: skip


def overview(observer: Observer, seen: Snapshot) -> Row:
    """Campaigns, queues, workers in numbers, and the broker."""
    return {
        "sequence": seen.sequence,
        "seen_at": seen.seen_at,
        "error": observer.trouble(),
        "broker": _broker(seen),
        "campaigns": [
            {**_some(status.to_row(name), _OVERVIEW), "scores": _scores(status)}
            for name, status in seen.campaigns.items()
        ],
        "queues": queue_rows(observer, seen),
        "workers": worker_counts(seen.workers),
        "members": in_words(seen.members.counts()) if seen.members.listed else None,
    }


def _broker(seen: Snapshot) -> Row | None:
    if seen.health is None:
        return None
    return {name: getattr(seen.health, name) for name in seen.health.__slots__}


def worker_counts(workers: list[Presence]) -> dict[str, int]:
    """How many workers are in each state."""
    return dict(sorted(Counter(worker.state for worker in workers).items()))


def queue_rows(observer: Observer, seen: Snapshot) -> list[Row]:
    """One row per queue: ``workers`` live ones serve it, and ``busy`` of those that are listed have a task."""
    busy: Counter[str] = Counter()
    for worker in seen.workers:
        if worker.is_alive and worker.beat.holding:
            busy.update(worker.beat.queues)
    rows = []
    with observer.lock:
        for queue in seen.queues:
            past = observer.queue_past.get(queue.name)
            arrivals, departures = past.rates() if past else (0.0, 0.0)
            rows.append(
                {
                    "queue": queue.name,
                    "depth": queue.depth,
                    "oldest_seconds": round(queue.oldest_seconds, 1),
                    "arrivals_per_second": round(arrivals, 2),
                    "departures_per_second": round(departures, 2),
                    "wait_p50_seconds": queue.wait_quantile(0.5),
                    "wait_p95_seconds": queue.wait_quantile(0.95),
                    "workers": seen.live.get(queue.name, 0),
                    "busy": busy[queue.name],
                }
            )
    return rows


def queue_series(observer: Observer) -> dict[str, list[list[float]]]:
    """[clock seconds, depth, age of the oldest] of each queue over the last minutes."""
    with observer.lock:
        return {
            name: [[round(p[0], 1), p[1], round(p[2], 1)] for p in past.points]
            for name, past in observer.queue_past.items()
        }


def campaign_now(seen: Snapshot, campaign: str) -> Row:
    """One campaign's status, bounded, with the lengths of its streams and the waits in its queues."""
    status = seen.campaigns.get(campaign, Status())
    row = {name: value for name, value in status.to_row(campaign).items() if name not in _TOO_LONG}
    row["requests"], row["over"] = steering(status.state), status.is_over
    row["scores"] = _scores(status)
    row["goal"] = None if (goal := nearest_goal(status)) is None else goal._asdict()
    if status.written_ms is not None:
        row["status_age_seconds"] = round(max(0.0, seen.seen_at - status.written_ms / 1000), 1)
    if (lengths := seen.lengths.get(campaign)) is not None:
        row["log_entries"], row["parked_entries"] = lengths.log, lengths.parked
        row["inbox_entries"] = lengths.inbox
    if status.timing is not None:
        row["part_quantiles"] = {part: part_quantiles(each) for part, each in status.timing.parts.items()}
    return row


def _some(row: Row, names: Sequence[str]) -> Row:
    return {name: row[name] for name in names if name in row}


def _scores(status: Status) -> list[Row]:
    """What a campaign is scored by, the main score first: name, newest, best and direction."""
    return [
        {"name": each.name, "final": each.final, "best": each.best, "higher_is_better": each.is_higher_better}
        for each in scores(status)
    ]


def part_quantiles(part: Histogram) -> Row:
    """Mean, p50 and p95 of a part of updates' lives in seconds; quantiles to the width of a histogram's bucket."""
    return {"mean": round(part.mean, 4), "p50": part.quantile(0.5), "p95": part.quantile(0.95)}


def worker_page(
    seen: Snapshot, track: Track | None, *, queues: Sequence[str] | None, page: int, size: int, sort: str, search: str
) -> Row:
    """One page of the workers' table.

    Args:
        track: of the campaign that is looked at; None for all campaigns' workers.
        queues: only workers that serve one of these.
        sort: a name in ``_COLUMNS``; ``-`` in front turns the order round.
        search: only workers whose name contains this.

    Returns:
        ``total`` and ``rows`` of the page, ``page`` counted from 0 and bounded.
    """
    pasts = track.workers if track is not None else {}
    wanted = None if queues is None else set(queues)
    found: list[_Worker] = [
        (worker.beat.worker, worker, pasts.get(worker.beat.worker, _NO_PAST))
        for worker in seen.workers
        if search in worker.beat.worker and (wanted is None or not wanted.isdisjoint(worker.beat.queues))
    ]
    registered = {worker.beat.worker for worker in seen.workers}
    found += [(name, None, past) for name, past in pasts.items() if name not in registered and search in name]
    descending, column = sort.startswith("-"), _COLUMNS.get(sort.removeprefix("-"), _COLUMNS["worker"])
    found.sort(key=lambda worker: worker[0])
    # A value that is not known comes last in either direction.
    known = [worker for worker in found if column(worker) is not None]
    known.sort(key=column, reverse=descending)
    found = known + [worker for worker in found if column(worker) is None]
    size = max(1, min(size, MAX_PAGE_SIZE))
    page = max(0, min(page, (len(found) - 1) // size if found else 0))
    rows = [
        (_past_row(name, past, "gone") if worker is None else _worker_row(worker, past, seen))
        | identity_row(seen.members, name)
        for name, worker, past in found[page * size : (page + 1) * size]
    ]
    return {"total": len(found), "page": page, "size": size, "rows": rows}


_NO_PAST = WorkerPast()
# name, what the register says of it (None: it is off it), what the feed says of it
_Worker = tuple[str, Presence | None, WorkerPast]

# Sorting looks at one value per worker; rows are made for the page alone.
_COLUMNS: dict[str, Callable[[_Worker], Any]] = {
    "worker": lambda w: w[0],
    "state": lambda w: "gone" if w[1] is None else w[1].state,
    "seen": lambda w: None if w[1] is None else w[1].silent_seconds,
    "updates": lambda w: w[2].updates,
    "rejected": lambda w: w[2].rejected,
    "staleness": lambda w: w[2].staleness / w[2].updates if w[2].updates else None,
    "train": lambda w: w[2].train_seconds / w[2].updates if w[2].updates else None,
    "done": lambda w: None if w[1] is None else w[1].beat.num_done,
    "failed": lambda w: None if w[1] is None else w[1].beat.num_failed,
    "bytes_up": lambda w: None if w[1] is None else w[1].beat.bytes_up,
    "host": lambda w: None if w[1] is None else w[1].beat.host,
}


def _worker_row(worker: Presence, past: WorkerPast, seen: Snapshot) -> Row:
    beat = worker.beat
    row = _past_row(beat.worker, past, worker.state)
    row |= {
        "seen": round(worker.silent_seconds + max(0.0, time.time() - seen.workers_seen_at), 1),
        "holding": beat.holding,
        "queues": list(beat.queues),
        "device": beat.device,
        "host": beat.host,
        "done": beat.num_done,
        "failed": beat.num_failed,
        "trouble": beat.trouble,
        "bytes_up": beat.bytes_up,
        "bytes_down": beat.bytes_down,
    }
    return row


def _past_row(name: str, past: WorkerPast, state: str) -> Row:
    updates = past.updates
    return {
        "worker": name,
        "state": state,
        "seen": None,
        "updates": updates,
        "rejected": past.rejected,
        "untrusted": past.untrusted,
        "staleness": round(past.staleness / updates, 2) if updates else None,
        "train": round(past.train_seconds / updates, 3) if updates else None,
        "sparks": past.sparks,
    }
