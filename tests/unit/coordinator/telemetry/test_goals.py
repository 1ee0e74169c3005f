"""How far a campaign is: the nearest condition, its share, and the time that is left where one can say."""

from __future__ import annotations

import pytest

from coordinator.telemetry.goals import Goal, nearest_goal
from fl_core.wire.status import MetricScores, Status, Target


@pytest.mark.parametrize(
    ("status", "goal"),
    [
        (Status(), None),
        (Status(stop={"updates": 40}, merged=10, wall_seconds=4.0), Goal(0.25, "40 updates", 12.0)),
        (Status(stop={"updates": 40, "seconds": 5.0}, merged=10, wall_seconds=4.0), Goal(0.8, "5 s", 1.0)),
        (Status(stop={"versions": 9}, versions=18, wall_seconds=4.0), Goal(1.0, "9 versions")),
        (Status(stop={"updates": 10_000}, merged=10, wall_seconds=4.0), Goal(0.001, "10000 updates")),
    ],
)
def test_counts(status: Status, goal: Goal | None) -> None:
    """The nearest wins; hardly begun, and over, no time that is left can be told."""
    assert nearest_goal(status) == goal


def test_scores_have_a_share_and_no_time() -> None:
    """Of a metric with its direction, and of the loss; one that was never had is at nothing."""
    targets = (Target(metric="auc", bound=0.9), Target(metric="loss", bound=0.5, higher_is_better=False))
    status = Status(targets=targets, metrics={"auc": MetricScores(best=0.45)})
    assert nearest_goal(status) == Goal(0.5, "auc at least 0.9")
    status = Status(targets=targets, metrics={"auc": MetricScores()}, best_loss=0.8)
    assert nearest_goal(status) == Goal(0.625, "loss at most 0.5")
