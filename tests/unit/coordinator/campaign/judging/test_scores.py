"""The newest and the best of each number, and when an accuracy was first reached."""

from __future__ import annotations

import msgpack
import pytest

from coordinator.campaign.judging.scores import Scores


def test_the_best_is_the_highest_or_the_lowest_by_the_metric_s_direction() -> None:
    """A number that cannot be had sets no record; the newest is shown as it is."""
    scores = Scores()
    for version, (auc, error) in enumerate([(0.5, 3.0), (0.75, None), (None, 2.0), (0.6, 4.0)]):
        scores.note(version, 1.0, {"auc": auc, "error": error}, 0.0, lambda name: name == "auc")
    assert scores.metrics == {"auc": 0.6, "error": 4.0}
    assert scores.best == {"auc": 0.75, "error": 2.0}


@pytest.mark.parametrize(
    ("losses", "best"),
    [([2.0, 1.0, 1.0, 0.5], [True, True, False, True]), ([None, 1.0], [False, True]), ([1.0, None], [True, False])],
)
def test_a_loss_is_the_best_only_where_it_is_lower_than_all(losses: list[float | None], best: list[bool]) -> None:
    """An equal one is none: a plateau is counted."""
    scores = Scores()
    assert [scores.note(0, loss, {}, 0.0) for loss in losses] == best


def test_the_time_of_an_accuracy_is_that_of_its_first_evaluation() -> None:
    """Each percent on the way as well; a model that falls back keeps what it has reached."""
    scores = Scores()
    for second, accuracy in enumerate((0.02, 0.01, 0.03)):
        scores.note(second, 1.0, {"accuracy": accuracy}, float(second))
    assert scores.seconds_to == {"0.01": 0.0, "0.02": 0.0, "0.03": 2.0}


def test_scores_of_now_and_of_an_earlier_release_are_restored() -> None:
    """The latter knew accuracy alone."""
    scores = Scores()
    scores.note(1, 0.5, {"accuracy": 0.75, "auc": None}, 2.0)
    assert Scores.restore(msgpack.unpackb(msgpack.packb(scores.export()))) == scores
    old = {"version": 1, "loss": 0.5, "best_loss": 0.5, "accuracy": 0.7, "best_accuracy": 0.8, "seconds_to": {}}
    restored = Scores.restore(old)
    assert (restored.accuracy, restored.best_accuracy) == (0.7, 0.8)
