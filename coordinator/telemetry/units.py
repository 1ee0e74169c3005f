"""Numbers as people read them: scores, bytes and durations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def number(value: float | None, digits: int = 4) -> str:
    """A score, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def amount(num_bytes: float) -> str:
    """Bytes for people.

    >>> amount(999), amount(40_000_000)
    ('999 B', '40.0 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def main_score(summary: Mapping[str, Any]) -> tuple[str, float | None, float | None]:
    """What is shown first of a campaign's scores: name, newest and best.

    The first metric of the spec that was ever had, or the loss.

    >>> main_score({"metrics": {"auc": {"final": None, "best": 0.9}}, "final_loss": 1.0, "best_loss": 0.5})
    ('auc', None, 0.9)
    """
    for name, row in summary.get("metrics", {}).items():
        if row["best"] is not None:
            return name, row["final"], row["best"]
    if summary.get("best_accuracy") is not None:  # an earlier release wrote it
        return "accuracy", summary["final_accuracy"], summary["best_accuracy"]
    return "loss", summary.get("final_loss"), summary.get("best_loss")


def duration(seconds: float | None) -> str:
    """Seconds for people, or a dash where there are none.

    >>> duration(0.0123), duration(61.04), duration(None)
    ('12 ms', '61.0 s', '–')
    """
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
