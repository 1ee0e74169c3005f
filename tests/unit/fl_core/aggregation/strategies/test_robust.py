"""The strategy robust: one vote for each worker, raw deltas into the rule, staleness into the step."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation import Contribution, Merge, Strategy, build_strategy
from fl_core.errors import InvariantError, SpecError
from fl_core.spec import parse_spec
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

SIZE = 4
LAYOUT = Layout((TensorSpec("w", (SIZE,)),))


def build(buffer_size: int, strategy: str = "robust", staleness: str = "polynomial", **args: Any) -> Strategy:
    """A strategy that starts from zeros; robust against as many hostile workers as its buffer allows."""
    if strategy == "robust" and "krum" not in args["rule"]:
        args.setdefault("num_byzantine", (buffer_size - 1) // 2)
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


def test_fewer_workers_than_votes_are_enough_if_the_rule_says_so() -> None:
    """After 4 K updates of 2 f + 1 workers the buffer is full all the same; the step is the part that they are of K."""
    strategy = build(4, staleness="constant", rule="median", num_byzantine=0)
    merges = [strategy.offer(update(1.0, f"w{number % 2}")) for number in range(16)]
    assert [merge is not None for merge in merges] == [False] * 15 + [True]
    assert strategy.parameters.values.tolist() == [0.5] * SIZE


RULES = st.sampled_from(
    ["median", "trimmed_mean", "geometric_median", "krum", "multi_krum", "bulyan", "norm_clip", "cosine"]
)


@given(
    rule=RULES,
    num_byzantine=st.integers(1, 2),
    sent=st.lists(st.tuples(st.integers(0, 9), st.floats(1, 2, width=32)), max_size=80),
    hostile=st.floats(-(2.0**90), 2.0**90, width=32),
)
def test_nothing_is_merged_without_the_votes_that_the_rule_needs(
    rule: str, num_byzantine: int, sent: list[tuple[int, float]], hostile: float
) -> None:
    """However fast the f hostile workers are, by a full buffer or a flush: each merge has 2 f + 1 voters or more, and
    with a rule by coordinates or by distances the model stays among what honest workers have sent."""
    size = (4 if rule == "bulyan" else 2) * num_byzantine + 3
    strategy = build(size, staleness="constant", rule=rule, num_byzantine=num_byzantine)
    waiting: set[int] = set()
    before = strategy.parameters.values.copy()
    for worker, value in sent:
        waiting.add(worker)
        merge = strategy.offer(update(hostile if worker < num_byzantine else value, f"w{worker}"))
        if merge is None and len(waiting) % 3 == 0:
            merge = strategy.flush()
        if merge is None:
            np.testing.assert_array_equal(strategy.parameters.values, before)
            continue
        voters, waiting = len(waiting), set()
        assert voters >= 2 * num_byzantine + 1
        if rule in ("median", "trimmed_mean", "krum"):
            step = (strategy.parameters.values - before) * (size / min(voters, size))
            assert (step >= 1 - 1e-4).all()
            assert (step <= 2 + 1e-4).all()
        before = strategy.parameters.values.copy()


def test_what_a_full_buffer_lacks_is_told() -> None:
    """Two workers that are fast do not stand for five; the coordinator says so."""
    strategy: Any = build(5, rule="median")
    for number in range(50):
        assert strategy.offer(update(1.0, f"w{number % 2}")) is None
    assert strategy.flush() is None
    assert strategy.waits_for.startswith("updates of 5 different workers")
    assert strategy.waits_for.endswith("2 have sent any")
    assert strategy.buffer_count == 50


def test_staleness_counts_once_for_each_vote() -> None:
    """A worker that floods the buffer with stale updates does not shorten the step by more than its one vote."""
    strategy = build(3, rule="median")
    for _ in range(9):
        strategy.offer(update(1.0, "flood", staleness=3))
    for worker in ("a", "b"):
        strategy.offer(update(1.0, worker))
    np.testing.assert_allclose(strategy.parameters.values, (0.5 + 1 + 1) / 3, rtol=1e-6)


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "cosine"])
def test_rules_by_coordinate_refuse_a_codec_that_leaves_coordinates_out(rule: str) -> None:
    """With topk nearly every coordinate's votes are zeros."""
    aggregation = {"strategy": "robust", "args": {"rule": rule}}
    with pytest.raises(SpecError, match="would take their zeros for votes"):
        parse_spec({"model": {"factory": "m:f"}, "aggregation": aggregation, "codec": {"name": "topk"}})


def test_parameters_are_refused() -> None:
    """Parameters are never added to a model, and do not count as a vote."""
    strategy = build(1, rule="median")
    with pytest.raises(InvariantError, match="merges deltas"):
        strategy.offer(Contribution(Parameters(np.ones(SIZE, np.float32)), 1, 0, "w"))
    assert strategy.buffer_count == 0
