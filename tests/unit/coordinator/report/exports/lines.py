"""The history of a short campaign, for the tests of its exports: eight merges of two updates, and one of each else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from coordinator.report.exports.points import Point, points
from fl_core.wire.history import history_line


def merge(seconds: float, version: int, staleness: list[int]) -> dict[str, Any]:
    """One, of the worker w."""
    names = ["w"] * len(staleness)
    return {"kind": "merge", "seconds": seconds, "version": version, "merged": 2 * version, "staleness": staleness,
            "weights": [1.0] * len(staleness), "workers": names, "tasks": []}  # fmt: skip


def evaluation(seconds: float, version: int, accuracy: float | None) -> dict[str, Any]:
    """One, whose loss follows from the version."""
    return {"kind": "evaluation", "seconds": seconds, "version": version, "merged": 2 * version, "loss": 2.0 / version,
            "accuracy": accuracy}  # fmt: skip


LINES = [
    *(merge(0.25 * version, version, [version, 3 * version]) for version in range(1, 9)),
    evaluation(2.1, 8, 0.5),
    {"kind": "rejection", "seconds": 2.2, "reason": "too_stale", "worker": "w", "task": "1-x"},
    {"kind": "reissue", "seconds": 2.3, "task": 4, "attempt": 2, "reason": "lost"},
    evaluation(3.5, 9, None),
]
END = {"kind": "end", "seconds": 4.0, "state": "finished", "reason": "updates"}


def points_of(lines: Iterable[dict[str, Any]]) -> list[Point]:
    """The points of these lines."""
    return list(points(map(history_line, lines)))
