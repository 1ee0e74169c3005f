"""What follows from an evaluation: a record, a plateau, the end, or the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coordinator.campaign.course import Phase

EVALUATED = {"evaluation": {"data": "a:b"}, "aggregation": {"buffer_size": 1, "staleness": "constant"}}


def _score(campaign: Any, version: int, loss: float, **metrics: float) -> Any:
    body = {"version": version, "loss": loss, "metrics": metrics, "num_examples": 10}
    return campaign.apply(campaign.event("evaluated", body))


def test_a_record_is_noted_with_the_time_of_its_entry(bench: Callable[..., Any]) -> None:
    """And the history has what was scored as it came."""
    campaign = bench(**EVALUATED).open(1)
    effects = _score(campaign, 0, 2.0, accuracy=0.02)
    (line,) = effects.history
    assert (line.version, line.loss, line.seconds) == (0, 2.0, effects.seconds)
    assert campaign.state.scores.seconds_to == {"0.01": effects.seconds, "0.02": effects.seconds}


def test_a_model_that_has_diverged_goes_back_and_a_hopeless_one_ends(bench: Callable[..., Any]) -> None:
    """The version goes on; what waited came from the diverged model; its evaluations set no record any more."""
    campaign = bench(**EVALUATED, guard={"max_rollbacks": 1}).open(9)
    _score(campaign, 0, 1.0)
    campaign.apply(campaign.update(1), campaign.update(2))
    effects = _score(campaign, 2, float("nan"))
    assert [line.to_map()["kind"] for line in effects.history] == ["evaluation", "rollback"]
    assert (campaign.state.strategy.version, campaign.values[:3]) == (3, [0.0] * 3)
    _score(campaign, 1, 0.1)
    assert campaign.state.scores.best_loss == 1.0, "version 1 is nobody's any more"
    _score(campaign, 3, float("nan"))
    assert (campaign.state.phase, campaign.state.stop_reason) == (Phase.STOPPED, "diverged")


def test_nothing_is_judged_after_the_end(bench: Callable[..., Any]) -> None:
    """The last version's scores come when all is over: they count, and change nothing else."""
    campaign = bench(**EVALUATED, stop={"updates": 1, "accuracy": 0.9}).open(2)
    campaign.apply(campaign.update(1))
    assert campaign.state.phase is Phase.FINISHED
    _score(campaign, 1, float("inf"), accuracy=0.95)
    assert (campaign.state.strategy.version, campaign.state.stop_reason) == (1, "updates")
    assert (campaign.state.scores.accuracy, campaign.state.guard.num_rollbacks) == (0.95, 0)


def test_a_checkpoint_brings_all_of_it_back(bench: Callable[..., Any]) -> None:
    """Scores, the good version that is kept, the plateaus, and a rate that is smaller after a rollback."""
    campaign = bench(
        **EVALUATED, training={"schedule": "plateau", "schedule_period": 1}, guard={"rate_factor": 0.5}
    ).open(9)
    _score(campaign, 0, 1.0)
    _score(campaign, 0, 1.5)
    campaign.apply(campaign.update(1))
    _score(campaign, 1, float("nan"))
    resumed = campaign.resumed()
    assert campaign.fingerprint(resumed) == campaign.fingerprint()
    assert (resumed.evaluations.num_plateaus, resumed.guard.num_rollbacks) == (2, 1)
    entry = campaign.update(2)
    campaign.apply(entry)
    resumed.apply(entry)
    assert campaign.fingerprint(resumed) == campaign.fingerprint()
