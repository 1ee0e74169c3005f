"""Numbers as people read them: scores, bytes and durations."""

from __future__ import annotations

import math
from typing import NamedTuple

from fl_core.wire.status import MetricScores, Summary


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


def scores(summary: Summary, *, all_of_them: bool = False) -> list[Score]:
    """All that a campaign was ever scored by, in the spec's order, and then the loss.

    Args:
        all_of_them: also those that were never had.

    >>> scores(Summary(metrics={"auc": MetricScores(best=0.9)}))
    [Score(name='auc', final=None, best=0.9, is_higher_better=True)]
    """
    metrics = summary.metrics
    if metrics is None:  # an earlier release wrote it
        metrics = {"accuracy": MetricScores(final=summary.final_accuracy, best=summary.best_accuracy)}
    found = [Score(name, each.final, each.best, each.higher_is_better) for name, each in metrics.items()]
    found.append(Score("loss", summary.final_loss, summary.best_loss, False))
    return [score for score in found if all_of_them or score.best is not None]


def main_score(summary: Summary) -> Score:
    """What is shown first: the first metric of the spec that was ever had, or the loss, had or not.

    >>> main_score(Summary()).label
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
