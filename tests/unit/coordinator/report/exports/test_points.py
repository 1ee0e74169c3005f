"""Points: no merge is lost in folding, few of them in a long campaign, and a beginning that stays as it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from coordinator.report.exports.points import Point, points
from fl_core.wire.history import history_line


def _merge(seconds: float, version: int, staleness: list[int]) -> dict[str, Any]:
    names = ["w"] * len(staleness)
    return {"kind": "merge", "seconds": seconds, "version": version, "merged": 2 * version, "staleness": staleness,
            "weights": [1.0] * len(staleness), "workers": names, "tasks": []}  # fmt: skip


def _evaluation(seconds: float, version: int, accuracy: float | None) -> dict[str, Any]:
    return {"kind": "evaluation", "seconds": seconds, "version": version, "merged": 2 * version, "loss": 2.0 / version,
            "accuracy": accuracy}  # fmt: skip


LINES = [
    *(_merge(0.25 * version, version, [version, 3 * version]) for version in range(1, 9)),
    _evaluation(2.1, 8, 0.5),
    {"kind": "rejection", "seconds": 2.2, "reason": "too_stale", "worker": "w", "task": "1-x"},
    {"kind": "reissue", "seconds": 2.3, "task": 4, "attempt": 2, "reason": "lost"},
    _evaluation(3.5, 9, None),
]
END = {"kind": "end", "seconds": 4.0, "state": "finished", "reason": "updates"}


def _points(lines: Iterable[dict[str, Any]]) -> list[Point]:
    return list(points(map(history_line, lines)))


def test_points_sum_up_every_merge() -> None:
    """However lines fall into intervals, the speeds times their intervals are all updates, and counters end right."""
    found = _points([*LINES, END])
    before, updates = 0.0, 0.0
    for point in found:
        if "merges/updates_per_second" in point.values:
            updates += point.values["merges/updates_per_second"] * (point.seconds - before)
        if "evaluation/loss" not in point.values:
            before = point.seconds
    assert updates == pytest.approx(16)
    assert [(p.step, dict(p.values)) for p in found if "evaluation/loss" in p.values] == [
        (8, {"evaluation/loss": 0.25, "evaluation/accuracy": 0.5}), (9, {"evaluation/loss": 2 / 9}),
    ]  # fmt: skip
    assert found[-1].values["rejected/too_stale"] == found[-1].values["tasks/reissued"] == 1


def test_points_of_a_beginning_are_the_beginning_of_the_points() -> None:
    """What was exported while the campaign ran stays true when it is over."""
    whole = _points([*LINES, END])
    for length in range(len(LINES) + 1):
        some = _points(LINES[:length])
        assert some == whole[: len(some)]


def test_a_long_campaign_has_few_points() -> None:
    """A hundred thousand merges over three hours make some thousand points."""
    assert len(_points(_merge(0.1 * number, number, [1]) for number in range(1, 100_001))) < 5000
