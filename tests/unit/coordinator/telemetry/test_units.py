"""Numbers as people read them, and what is shown of a campaign first."""

from __future__ import annotations

import pytest

from coordinator.telemetry.units import amount, duration, main_score, number, scores
from fl_core.wire.status import MetricScores, Summary


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (number(0.5), "0.5000"), (number(1.0, 1), "1.0"), (number(None), "–"), (number(float("inf")), "–"),
        (amount(0), "0 B"), (amount(999), "999 B"), (amount(1000), "1.0 kB"), (amount(3e15), "3000.0 TB"),
        (duration(None), "–"), (duration(0.0), "0 ms"), (duration(1.04), "1.0 s"),
    ],
)  # fmt: skip
def test_units(shown: str, text: str) -> None:
    """Each unit's first value and its last one."""
    assert shown == text


def test_the_main_score_is_the_first_metric_that_was_ever_had() -> None:
    """Else the loss; of an earlier release's summary, accuracy."""
    metrics = {"auc": MetricScores(), "f1": MetricScores(final=None, best=0.5), "mae": MetricScores(best=2.0)}
    summary = Summary(metrics=metrics, final_loss=1.0, best_loss=0.5)
    assert [score.name for score in scores(summary)] == ["f1", "mae", "loss"]
    assert [score.name for score in scores(summary, all_of_them=True)] == ["auc", "f1", "mae", "loss"]
    assert main_score(summary).label == "f1 ↑"
    assert main_score(Summary(metrics={}, best_loss=1.0)).label == "loss ↓"
    assert main_score(Summary(final_accuracy=0.25, best_accuracy=0.5)).final == 0.25
