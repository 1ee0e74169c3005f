"""The buffer is a running weighted sum in one vector."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation.buffer import Buffer
from fl_core.errors import CampaignError, InvariantError
from fl_core.vectors import Delta

additions = st.lists(st.tuples(st.floats(0.01, 1.0), st.integers(1, 1000), st.integers(0, 50)), min_size=1, max_size=12)


@given(additions=additions, seed=st.integers(0, 2**32 - 1))
def test_mean_is_the_weighted_sum_over_the_divisor(additions: list[tuple[float, int, int]], seed: int) -> None:
    """After any additions the mean is Σ w_i Δ_i / divisor, and the counts are those of the additions."""
    deltas = np.random.default_rng(seed).normal(size=(len(additions), 5)).astype(np.float32)
    buffer = Buffer(5)
    expected = np.zeros(5)
    for delta, (weight, num_examples, staleness) in zip(deltas, additions, strict=True):
        buffer.add(Delta(delta), weight=weight, num_examples=num_examples, staleness=staleness)
        expected += weight * delta.astype(np.float64)
    assert buffer.count == len(additions)
    assert buffer.example_total == sum(num_examples for _, num_examples, _ in additions)
    assert buffer.staleness == [staleness for _, _, staleness in additions]
    np.testing.assert_allclose(buffer.mean(7.0).values, expected / 7.0, rtol=1e-5, atol=1e-5)


def test_nothing_of_the_past_is_left_after_clear() -> None:
    """A cleared buffer starts from zero, even after values that were not finite."""
    buffer = Buffer(3)
    buffer.add(Delta(np.full(3, np.nan, np.float32)), weight=1.0, num_examples=5, staleness=2)
    buffer.clear()
    assert (buffer.count, buffer.example_total, buffer.staleness, buffer.weights) == (0, 0, [], [])
    buffer.add(Delta(np.ones(3, np.float32)), weight=2.0, num_examples=1, staleness=0)
    assert buffer.mean(1).values.tolist() == [2.0, 2.0, 2.0]


def test_memory_does_not_grow_with_the_number_of_updates() -> None:
    """The same vector is used for every update, and no delta is kept."""
    buffer = Buffer(4)
    seen = set()
    for number in range(20):
        delta = np.full(4, number, np.float32)
        buffer.add(Delta(delta), weight=1.0, num_examples=1, staleness=0)
        delta[:] = np.nan
        seen.add(buffer.export_state()[0]["accumulator"].ctypes.data)
    assert len(seen) == 1
    assert buffer.mean(1).values.tolist() == [190.0] * 4


def test_an_empty_buffer_exports_no_vector_and_has_no_mean() -> None:
    """With nothing in it there is nothing to write, and asking for a mean is a bug."""
    tensors, meta = Buffer(3).export_state()
    assert tensors == {}
    other = Buffer(3)
    other.add(Delta(np.ones(3, np.float32)), weight=1.0, num_examples=1, staleness=0)
    other.restore_state(tensors, meta)
    assert other.count == 0
    with pytest.raises(InvariantError, match="empty"):
        other.mean(1)


def test_a_checkpoint_of_another_size_is_refused() -> None:
    """An accumulator that does not fit, or is missing, is the operator's error."""
    buffer = Buffer(3)
    buffer.add(Delta(np.ones(3, np.float32)), weight=1.0, num_examples=1, staleness=0)
    tensors, meta = buffer.export_state()
    with pytest.raises(CampaignError, match="4 elements"):
        Buffer(4).restore_state(tensors, meta)
    with pytest.raises(CampaignError, match="3 elements"):
        Buffer(3).restore_state({}, meta)


def test_a_delta_of_another_size_is_a_bug_and_not_counted() -> None:
    """A delta that does not fit raises and leaves the count as it was."""
    buffer = Buffer(3)
    with pytest.raises(InvariantError):
        buffer.add(Delta(np.ones(1, np.float32)), weight=1.0, num_examples=1, staleness=0)
    assert buffer.count == 0
