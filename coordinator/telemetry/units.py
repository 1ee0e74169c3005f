"""Numbers as people read them: scores, bytes and durations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


def number(value: float | None, digits: int = 4) -> str:
    """A score, or a dash where there is none.

    >>> number(0.5), number(None), number(float("nan"))
    ('0.5000', '–', '–')
    """
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "–"


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


class Score(NamedTuple):
    """One of a campaign's scores: the newest and the best, and its direction."""

    name: str
    final: float | None
    best: float | None
    is_higher_better: bool

    @property
    def label(self) -> str:
        """Its name, and an arrow to where it is better."""
        return f"{self.name.replace('_', ' ')} {'↑' if self.is_higher_better else '↓'}"


def scores(summary: Mapping[str, Any]) -> list[Score]:
    """All that a campaign was ever scored by, in the spec's order, and then the loss; absent ones are left out.

    >>> scores({"metrics": {"auc": {"final": None, "best": 0.9, "higher_is_better": True}}, "final_loss": None})
    [Score(name='auc', final=None, best=0.9, is_higher_better=True)]
    """
    found = [
        Score(name, row.get("final"), row.get("best"), row.get("higher_is_better", True))
        for name, row in summary.get("metrics", {}).items()
    ]
    if "metrics" not in summary:  # an earlier release wrote it
        found.append(Score("accuracy", summary.get("final_accuracy"), summary.get("best_accuracy"), True))
    found.append(Score("loss", summary.get("final_loss"), summary.get("best_loss"), False))
    return [score for score in found if score.best is not None]


def main_score(summary: Mapping[str, Any]) -> Score:
    """What is shown first: the first metric of the spec that was ever had, or the loss, had or not.

    >>> main_score({}).label
    'loss ↓'
    """
    return next(iter(scores(summary)), Score("loss", None, None, False))


def duration(seconds: float | None) -> str:
    """Seconds for people, or a dash where there are none.

    >>> duration(0.0123), duration(61.04), duration(None)
    ('12 ms', '61.0 s', '–')
    """
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
