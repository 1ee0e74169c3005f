"""AsyncFedED weighs an update by how far the model has gone since its base, in lengths of the update."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation import Contribution, Strategy, build_strategy
from fl_core.errors import InvariantError
from fl_core.spec import parse_spec
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout((TensorSpec("w", (6,)),))
MIXING, EPSILON = 0.8, 0.5


def build(**args: Any) -> Strategy:
    """A strategy that starts from zeros."""
    aggregation = {"strategy": "asyncfeded", "mixing": MIXING, "args": {"epsilon": EPSILON, **args}}
    spec = parse_spec({"model": {"factory": "m:f"}, "aggregation": aggregation})
    return build_strategy(spec, LAYOUT, Parameters(np.zeros(6, np.float32)))


@given(
    lags=st.lists(st.integers(0, 12), min_size=1, max_size=15),
    kept=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_update_is_added_at_its_own_rate(lags: list[int], kept: int, seed: int) -> None:
    """Against a float64 loop that keeps all versions and looks at most ``kept`` back."""
    rows = np.random.default_rng(seed).normal(size=(len(lags), 6)).astype(np.float32)
    strategy = build(kept_versions=kept)
    versions: list[npt.NDArray[np.float64]] = [np.zeros(6)]
    for row, lag in zip(rows, lags, strict=True):
        staleness = min(lag, len(versions) - 1)
        base = versions[len(versions) - 1 - min(staleness, kept)]
        gamma = np.linalg.norm(versions[-1] - base) / np.linalg.norm(row.astype(np.float64))
        rate = MIXING / (gamma + EPSILON)
        versions.append(versions[-1] + rate * row)
        merge = strategy.offer(Contribution(Delta(row), 3, staleness, "w"))
        assert merge is not None
        assert (merge.version, merge.staleness) == (len(versions) - 1, (staleness,))
        assert merge.weights == pytest.approx((rate,), rel=1e-4)
    np.testing.assert_allclose(strategy.parameters.values, versions[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("concurrency", "kept"), [(1, 1), (30, 30), (5000, 1000)])
def test_as_many_versions_are_kept_as_tasks_are_out(concurrency: int, kept: int) -> None:
    """The default covers the staleness that equal devices have; a base that is not kept makes γ too small."""
    aggregation = {"strategy": "asyncfeded"}
    dispatch = {"concurrency": concurrency}
    spec = parse_spec({"model": {"factory": "m:f"}, "aggregation": aggregation, "dispatch": dispatch})
    strategy = build_strategy(spec, LAYOUT, Parameters(np.zeros(6, np.float32)))
    assert getattr(strategy, "held_vectors", None) == kept


def test_a_state_without_its_number_of_versions_goes_on_with_eight() -> None:
    """It was written when eight was the default; more would merge the rest of its log to other bits."""
    strategy, again = build(), build()
    for _ in range(20):
        strategy.offer(update_of_ones())
    tensors, meta = strategy.export_state()
    assert meta.pop("kept") == 10
    old = {name: array for name, array in tensors.items() if name not in ("old.0", "old.1")}
    old = {f"old.{int(name[4:]) - 2}" if name.startswith("old.") else name: array for name, array in old.items()}
    again.restore_state(old, meta | {"num_old": 8})
    again.offer(update_of_ones())
    assert again.export_state()[1]["num_old"] == 8


def update_of_ones() -> Contribution:
    """A fresh update of ones."""
    return Contribution(Delta(np.ones(6, np.float32)), 1, 0, "w")


def test_versions_that_did_not_move_the_model_cost_nothing() -> None:
    """Staleness in versions plays no part: after ten empty updates an old one still counts in full."""
    strategy = build()
    for _ in range(10):
        strategy.offer(Contribution(Delta(np.zeros(6, np.float32)), 1, 0, "idle"))
    merge = strategy.offer(Contribution(Delta(np.ones(6, np.float32)), 1, 10, "slow"))
    assert merge is not None
    assert merge.weights == (MIXING / EPSILON,)


def test_memory_stays_within_the_kept_versions() -> None:
    """However many versions there were, no more are kept, and their memory is used again."""
    strategy = build(kept_versions=3)
    seen = set()
    for _ in range(20):
        strategy.offer(Contribution(Delta(np.ones(6, np.float32)), 1, 0, "w"))
        tensors, _ = strategy.export_state()
        kept = {name: array for name, array in tensors.items() if name.startswith("old.")}
        assert len(kept) <= 3
        seen |= {array.ctypes.data for array in kept.values()}
    assert len(seen) == 3


def test_it_goes_on_from_a_version_whose_past_is_gone() -> None:
    """Put at a later version without old ones, as after a rollback, it still takes a stale update in."""
    strategy = build()
    tensors, meta = strategy.export_state()
    strategy.restore_state(tensors, {**meta, "version": 40})
    merge = strategy.offer(Contribution(Delta(np.ones(6, np.float32)), 1, 7, "w"))
    assert merge is not None
    assert (merge.version, merge.weights) == (41, (MIXING / EPSILON,))


def test_parameters_are_refused() -> None:
    """Parameters are never added to a model."""
    with pytest.raises(InvariantError, match="merges deltas"):
        build().offer(Contribution(Parameters(np.ones(6, np.float32)), 1, 0, "w"))
