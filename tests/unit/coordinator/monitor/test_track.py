"""A campaign's past: bounded, and no update lost in thinning."""

from __future__ import annotations

from coordinator.monitor.track import MAX_EVENTS, MAX_POINTS, NUM_SPARKS, Track
from fl_core.wire.feed_lines import MergesLine, RejectionsLine
from fl_core.wire.history import EvaluationLine, ReissueLine


def _merges(seconds: float, merged: int, updates: int, workers: dict[str, tuple[float, float, float]]) -> MergesLine:
    return MergesLine(
        seconds=seconds, version=merged, merged=merged, updates=updates, merges=1, staleness=((1, updates),),
        workers=workers,
    )  # fmt: skip


def test_a_long_campaign_keeps_every_update_in_bounded_series() -> None:
    """After 50 times as many entries as there are points, sums and order are still right."""
    track, total = Track(), 50 * MAX_POINTS
    for index in range(1, total + 1):
        track.add([_merges(float(index), index, 1, {"w": (1, 1, 0.5)})])
        if index % 10 == 0:
            track.add([EvaluationLine(seconds=float(index), version=1, merged=index, loss=1.0, metrics={})])
    assert len(track.intervals) <= 2 * MAX_POINTS
    assert len(track.evaluations) <= 2 * MAX_POINTS
    assert sum(interval.updates for interval in track.intervals) == total
    assert sum(interval.buckets[1] for interval in track.intervals) == total
    assert track.intervals[-1].merged == total
    assert [i.seconds for i in track.intervals] == sorted(i.seconds for i in track.intervals)
    assert track.evaluations[-1].seconds == float(total)
    worker = track.workers["w"]
    assert (worker.updates, worker.staleness, worker.train_seconds) == (total, total, total / 2)
    assert len(worker.sparks) <= NUM_SPARKS
    assert sum(worker.sparks) == total


def test_events_are_numbered_and_the_oldest_go() -> None:
    """A page can ask for what is new by number."""
    track = Track()
    track.add(ReissueLine(seconds=0.0, task=index, attempt=2, reason="lost") for index in range(2 * MAX_EVENTS))
    assert [event["n"] for event in track.series()["events"]] == list(range(MAX_EVENTS + 1, 2 * MAX_EVENTS + 1))


def test_rejections_are_counted_by_reason_and_worker() -> None:
    """Rejections of senders that nobody knows count for the reason alone."""
    track = Track()
    reasons = {"too_stale": 2, "malformed": 1}
    track.add([RejectionsLine(seconds=1.0, reasons=reasons, workers={"w": 2, "": 1})] * 2)
    assert track.rejected == {"too_stale": 4, "malformed": 2}
    assert {name: past.rejected for name, past in track.workers.items()} == {"w": 4}
