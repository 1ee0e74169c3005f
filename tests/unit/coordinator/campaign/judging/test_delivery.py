"""The version that met a target is what is delivered, and what the log says of it comes out again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coordinator.campaign.course import Phase
from coordinator.campaign.summary import summarise

NUM_ELEMENTS = 64
SECTIONS: dict[str, Any] = {
    "aggregation": {"buffer_size": 2, "staleness": "constant"},
    "evaluation": {"data": "a:b", "metrics": ["auc"]},
    "stop": {"accuracy": 0.9, "metric": [{"name": "auc", "at_least": 0.8}, {"name": "perplexity", "at_most": 2.0}]},
}


def _opened(bench: Callable[..., Any], **sections: Any) -> Any:
    return bench(**{**SECTIONS, **sections}).open(40)


def _merge(campaign: Any, size: float = 1.0) -> None:
    first = next(iter(campaign.state.ledger.open))
    for number in (first, first + 1):
        campaign.apply(campaign.update(number, values=np.full(NUM_ELEMENTS, size)))


def _pin(campaign: Any) -> int:
    effects = campaign.apply(campaign.event("evaluating", {}))
    assert effects.pinned == campaign.state.strategy.version
    return int(effects.pinned)


def _score(campaign: Any, version: int, loss: float = 1.0, **metrics: float | None) -> None:
    body = {"version": version, "loss": loss, "metrics": metrics, "num_examples": 10}
    campaign.apply(campaign.event("evaluated", body))


def _delivered(campaign: Any) -> tuple[int, list[float]]:
    state = campaign.state
    values = state.delivery.parameters(state.strategy).values
    return state.delivery.version(state.strategy), sorted(set(values.tolist()))


@pytest.mark.parametrize(
    ("metrics", "met"),
    [
        ({"accuracy": 0.95, "auc": 0.1}, {"metric": "accuracy", "value": 0.95, "bound": 0.9}),
        ({"accuracy": None, "auc": 0.8}, {"metric": "auc", "value": 0.8, "bound": 0.8}),
        ({"accuracy": 0.1, "perplexity": 1.5}, {"metric": "perplexity", "value": 1.5, "bound": 2.0}),
    ],
)
def test_the_version_that_met_the_target_is_delivered(
    bench: Callable[..., Any], metrics: dict[str, float | None], met: dict[str, Any]
) -> None:
    """Though the model has moved on since, by merges and by what waits in the buffer."""
    campaign = _opened(bench)
    _merge(campaign)
    version = _pin(campaign)
    _merge(campaign, 5.0)
    _merge(campaign, 5.0)
    _score(campaign, version, **metrics)
    state = campaign.state
    assert (state.phase, state.stop_reason) == (Phase.FINISHED, met["metric"])
    assert _delivered(campaign) == (1, [1.0])
    summary = summarise("c", campaign.spec, state, campaign.layout)
    assert (summary["delivered_version"], summary["versions"], summary["target_met"]) == (1, 3, met)
    again = campaign.new_state()
    again.restore(*state.export())
    assert (again.delivery.met, again.delivery.version(again.strategy)) == (met, 1)
    assert campaign.fingerprint(again) == campaign.fingerprint()


@pytest.mark.parametrize(
    "metrics", [{"accuracy": 0.89, "auc": 0.79, "perplexity": 2.1}, {"accuracy": None, "auc": None}]
)
def test_who_meets_no_target_is_not_kept(bench: Callable[..., Any], metrics: dict[str, float | None]) -> None:
    """Absent numbers meet none; the copy is let go, and the last version is what there is."""
    campaign = _opened(bench)
    version = _pin(campaign)
    _merge(campaign)
    _score(campaign, version, **metrics)
    assert campaign.state.phase is Phase.RUNNING
    assert campaign.state.delivery.pinned is None
    assert _delivered(campaign)[0] == 1


def test_a_dropped_version_meets_no_target(bench: Callable[..., Any]) -> None:
    """What the guard took back is nobody's version any more."""
    campaign = _opened(bench)
    _score(campaign, 0)
    _merge(campaign)
    version = _pin(campaign)
    _merge(campaign)
    _score(campaign, 2, loss=float("nan"))
    _score(campaign, version, accuracy=0.99)
    assert campaign.state.phase is Phase.RUNNING
    assert campaign.state.delivery.pinned is None


def test_a_version_that_is_not_there_any_more_ends_nothing(bench: Callable[..., Any]) -> None:
    """A score of a version of which there is no copy: the next evaluation decides."""
    campaign = _opened(bench)
    _merge(campaign)
    _score(campaign, 0, accuracy=0.99)
    assert campaign.state.phase is Phase.RUNNING
    _score(campaign, 1, accuracy=0.99)
    assert (campaign.state.phase, _delivered(campaign)) == (Phase.FINISHED, (1, [1.0]))


def test_an_earlier_releases_log_says_the_same_again(bench: Callable[..., Any]) -> None:
    """Its evaluations name no metrics, and ended the campaign with what the model was by then."""
    campaign = _opened(bench)
    _merge(campaign)
    _merge(campaign)
    body = {"version": 1, "loss": 1.0, "accuracy": 0.95, "num_examples": 10}
    campaign.apply(campaign.event("evaluated", body))
    assert (campaign.state.stop_reason, _delivered(campaign)) == ("accuracy", (2, [2.0]))
    assert "metrics" not in campaign.history[-2]


def test_a_guard_may_watch_a_metric(bench: Callable[..., Any]) -> None:
    """Of which higher is better: below a part of the best so far, the model goes back; absent, the loss decides."""
    guard = {"metric": "auc", "factor": 2.0}
    campaign = _opened(bench, guard=guard, stop={"updates": 40})
    for value in (0.5, 0.9, None, 0.46):
        _score(campaign, campaign.state.strategy.version, loss=50.0, auc=value)
        assert not campaign.state.guard.num_rollbacks
        _merge(campaign)
    _score(campaign, campaign.state.strategy.version, loss=0.1, auc=0.44)
    assert campaign.state.guard.num_rollbacks == 1
