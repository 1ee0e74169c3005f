"""Updates on the integer grid: the bound on their norm holds whatever they are."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fl_core.codecs import codec
from fl_core.errors import InvariantError
from fl_core.privacy.grid import RESOLUTION, from_grid, squared_norm, to_grid
from fl_core.vectors import read_all

TINY = float(np.finfo(np.float32).smallest_subnormal)
HUGE = float(np.finfo(np.float32).max)
ANY = st.one_of(st.floats(width=32), st.sampled_from([0.0, -0.0, TINY, -TINY, HUGE, -HUGE, np.inf, -np.inf, np.nan]))
CLIPS = st.one_of(st.floats(1e-6, 1e6), st.sampled_from([1e-300, 1e-38, 1e38, 1e300, 5e-324]))
WEIGHTS = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 5e-324, 1e-9, 1 / RESOLUTION, 1 - 2.0**-53, 16.0, 1024.0]))


def exact_square(steps: np.ndarray) -> int:
    return sum(int(step) ** 2 for step in steps)


@given(values=arrays(np.float32, st.integers(0, 40), elements=ANY), clip=CLIPS, weight=WEIGHTS)
def test_the_bound_holds(values: np.ndarray, clip: float, weight: float) -> None:
    """On the integers, exactly, for any floats at all; and what is not finite counts as zeros."""
    steps = to_grid(values, clip, weight)
    assert steps.dtype == np.int64 and steps.shape == values.shape
    assert exact_square(steps) == squared_norm(steps) <= (Fraction(weight) * RESOLUTION) ** 2
    if not np.isfinite(values).all():
        assert not steps.any()


@given(
    direction=arrays(np.float32, st.integers(1, 60), elements=st.floats(-1, 1, width=32)),
    length=st.floats(0.9, 1.1),
    weight=st.floats(0.01, 1),
)
def test_near_the_clip_too(direction: np.ndarray, length: float, weight: float) -> None:
    """Where rounding alone would carry the norm over the bound."""
    norm = float(np.linalg.norm(direction.astype(np.float64)))
    if norm > 1e-3:
        steps = to_grid((direction * np.float32(length / norm)).astype(np.float32), 1.0, weight)
        assert exact_square(steps) <= (Fraction(weight) * RESOLUTION) ** 2


@pytest.mark.parametrize("num_elements", [1, 1000, 100_000, 1_000_000])
@pytest.mark.parametrize("weight", [1.0, 0.3, 16.0])
def test_what_is_clipped_keeps_its_direction(num_elements: int, weight: float) -> None:
    """It is as long as it may be but for the room, and each element is rounded to the nearest step."""
    values = np.random.default_rng(num_elements).standard_normal(num_elements).astype(np.float32)
    steps = to_grid(values, 1e-3, weight)
    bound = weight * RESOLUTION
    assert 0.999 * bound < np.sqrt(squared_norm(steps)) <= bound
    factor = bound / np.linalg.norm(values.astype(np.float64))
    assert np.abs(steps - values * factor).max() <= 0.5 + 1e-3 * np.abs(values * factor).max()
    # Rounding towards zero would take half a step off each element.
    assert abs(np.mean((steps - values * factor * np.sqrt(squared_norm(steps)) / bound) * np.sign(values))) < max(
        0.51 / np.sqrt(num_elements) * 4, 1e-2
    )


def test_what_is_short_stays_as_it_is() -> None:
    """Nothing is scaled up, and each element is off by half a step at most."""
    values = np.array([0.1, -0.2, 1e-9, 0.0], np.float32)
    steps = to_grid(values, 1.0)
    np.testing.assert_array_equal(steps, np.rint(values.astype(np.float64) * RESOLUTION))
    np.testing.assert_allclose(from_grid(steps, 1.0, 1), values, atol=0.5 / RESOLUTION)


@pytest.mark.parametrize("num_elements", [300_000, 3_000_000])
def test_weights_so_small_that_the_grid_is_too_coarse(num_elements: int) -> None:
    """Each element is less than a step then, and rounding up half of them would be far beyond the bound."""
    values = np.ones(num_elements, np.float32)
    for weight in (1e-2, 5.1e-3, 1e-4, 1e-9):
        assert squared_norm(to_grid(values, 1.0, weight)) <= (Fraction(weight) * RESOLUTION) ** 2


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16", "int8"])
def test_encoded_vectors_are_read_in_blocks(name: str) -> None:
    """The same steps as of the decoded vector."""
    values = np.random.default_rng(3).standard_normal(100_000).astype(np.float32)
    chosen = codec(name)
    encoded = chosen.decode(chosen.encode(values, 7), values.size)
    np.testing.assert_array_equal(to_grid(encoded, 20.0, 0.7), to_grid(read_all(encoded), 20.0, 0.7))


def test_a_sum_has_no_order() -> None:
    """Integers add up to the same bits in any order, and come back as the mean."""
    chance = np.random.default_rng(0)
    updates = [chance.standard_normal(1000).astype(np.float32) for _ in range(12)]
    steps = [to_grid(update, 100.0) for update in updates]
    total = sum(steps)
    np.testing.assert_array_equal(total, sum(reversed(steps)))
    np.testing.assert_allclose(from_grid(total, 100.0, 12), np.mean(updates, axis=0), atol=1e-3)


@pytest.mark.parametrize(("clip", "weight"), [(0.0, 1.0), (-1.0, 1.0), (np.inf, 1.0), (np.nan, 1.0), (1.0, -1.0),
                                              (1.0, np.nan), (1.0, 2000.0)])  # fmt: skip
def test_nonsense_is_refused(clip: float, weight: float) -> None:
    """A clip or weight that has no meaning is a bug, and no update of zeros."""
    with pytest.raises(InvariantError, match="clip"):
        to_grid(np.ones(3, np.float32), clip, weight)
