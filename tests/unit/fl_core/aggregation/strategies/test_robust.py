"""The strategy robust: one vote for each worker, raw deltas into the rule, staleness into the step."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation import Contribution, Merge, Strategy, build_strategy
from fl_core.errors import InvariantError
from fl_core.spec import parse_spec
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout, TensorSpec

SIZE = 4
LAYOUT = Layout((TensorSpec("w", (SIZE,)),))


def build(buffer_size: int, strategy: str = "robust", staleness: str = "polynomial", **args: Any) -> Strategy:
    """A strategy that starts from zeros."""
    aggregation = {"strategy": strategy, "buffer_size": buffer_size, "staleness": staleness, "args": args}
    spec = parse_spec({"model": {"factory": "m:f"}, "aggregation": aggregation})
    return build_strategy(spec, LAYOUT, Parameters(np.zeros(SIZE, np.float32)))


def update(value: float, worker: str, staleness: int = 0) -> Contribution:
    """An update that is the same everywhere."""
    return Contribution(Delta(np.full(SIZE, value, np.float32)), 1, staleness, worker)


@given(
    rows=st.lists(st.tuples(st.floats(-5, 5, width=32), st.integers(0, 20)), min_size=1, max_size=6),
)
def test_a_buffer_of_one_is_fedbuff(rows: list[tuple[float, int]]) -> None:
    """K = 1: the median of one update, times s(τ), is FedBuff's step."""
    robust, fedbuff = build(1, rule="median"), build(1, "fedbuff")
    for value, tau in rows:
        merges = [strategy.offer(update(value, "w", tau)) for strategy in (robust, fedbuff)]
        assert merges[0] == merges[1]
    np.testing.assert_allclose(robust.parameters.values, fedbuff.parameters.values, rtol=1e-6)


def test_the_untrimmed_mean_of_equally_stale_updates_is_fedbuff() -> None:
    """Without trimming, and with one staleness, both merge Σ s Δ / K."""
    robust, fedbuff = build(3, rule="trimmed_mean", num_byzantine=0), build(3, "fedbuff")
    for number in range(3):
        for strategy in (robust, fedbuff):
            strategy.offer(update(number + 0.5, f"w{number}", 8))
    np.testing.assert_allclose(robust.parameters.values, fedbuff.parameters.values, rtol=1e-6)


def test_staleness_shortens_the_step_and_not_the_votes() -> None:
    """The stale vote is the median as it is; the step is it times the mean of the three weights."""
    strategy = build(3, rule="median")
    merges = [strategy.offer(update(v, w, tau)) for v, w, tau in ((1.0, "a", 0), (2.0, "b", 3), (9.0, "c", 0))]
    assert merges[:2] == [None, None]
    assert merges[2] == Merge(1, 3, (0, 3, 0), (1.0, 0.5, 1.0))
    np.testing.assert_allclose(strategy.parameters.values, 2.0 * 2.5 / 3, rtol=1e-6)


def test_a_fast_worker_has_one_vote() -> None:
    """Updates of one worker become one vote, and the buffer is full when K workers have voted."""
    strategy = build(3, staleness="constant", rule="median")
    for _ in range(7):
        assert strategy.offer(update(-100.0, "hostile and fast")) is None
    assert strategy.offer(update(1.0, "honest")) is None
    merge = strategy.offer(update(2.0, "slow"))
    assert merge is not None
    assert (merge.num_updates, strategy.buffer_count) == (9, 0)
    assert strategy.parameters.values.tolist() == [1.0] * SIZE


def test_a_vote_is_the_mean_of_its_updates() -> None:
    """Two updates of the same worker count as their mean."""
    strategy = build(2, staleness="constant", rule="trimmed_mean", num_byzantine=0)
    for value, worker in ((1.0, "a"), (3.0, "a"), (6.0, "b")):
        strategy.offer(update(value, worker))
    assert strategy.parameters.values.tolist() == [4.0] * SIZE


def test_fewer_workers_than_votes_do_not_stop_the_campaign() -> None:
    """After 4 K updates the buffer is full all the same; the step is the part that the votes are of K."""
    strategy = build(4, staleness="constant", rule="median")
    merges = [strategy.offer(update(1.0, f"w{number % 2}")) for number in range(16)]
    assert [merge is not None for merge in merges] == [False] * 15 + [True]
    assert strategy.parameters.values.tolist() == [0.5] * SIZE


def test_a_flush_with_too_few_votes_takes_their_median() -> None:
    """Krum against two needs seven; of three votes the median decides, at three sevenths of a step."""
    strategy = build(7, staleness="constant", rule="krum", num_byzantine=2)
    for value, worker in ((1.0, "a"), (7.0, "b"), (900.0, "c")):
        strategy.offer(update(value, worker))
    assert strategy.flush() is not None
    np.testing.assert_allclose(strategy.parameters.values, 3.0, rtol=1e-6)


def test_parameters_are_refused() -> None:
    """Parameters are never added to a model, and do not count as a vote."""
    strategy = build(1, rule="median")
    with pytest.raises(InvariantError, match="merges deltas"):
        strategy.offer(Contribution(Parameters(np.ones(SIZE, np.float32)), 1, 0, "w"))
    assert strategy.buffer_count == 0
