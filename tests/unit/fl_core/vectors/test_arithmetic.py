"""The blocked kernels compute the formula element by element, with one rounding per operation."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.errors import InvariantError
from fl_core.vectors.arithmetic import BLOCK, Segments, add_scaled, divide, mix, norm_and_finite, scale_into

SIZES = [0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5]
Vector = npt.NDArray[np.float32]


def two_vectors(size: int) -> tuple[Vector, Vector]:
    """Two different vectors of float32."""
    generator = np.random.default_rng(size)
    return generator.normal(size=size).astype(np.float32), generator.normal(size=size).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_add_scaled_rounds_product_and_sum(size: int) -> None:
    """Each element is float32(a + float32(w · v)), at every place relative to the block's edges; v is untouched."""
    accumulator, values = two_vectors(size)
    weight = np.float32(0.37)
    product = (values.astype(np.float64) * np.float64(weight)).astype(np.float32)
    expected = (accumulator.astype(np.float64) + product.astype(np.float64)).astype(np.float32)
    before = values.copy()
    add_scaled(accumulator, values, 0.37)
    np.testing.assert_array_equal(accumulator, expected)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("size", SIZES)
def test_mix_is_the_convex_combination(size: int) -> None:
    """Each element is (1 - α) x + α y to float32 precision; y is untouched."""
    x, y = two_vectors(size)
    expected = 0.7 * x.astype(np.float64) + 0.3 * y.astype(np.float64)
    before = y.copy()
    mix(x, y, 0.3)
    np.testing.assert_allclose(x, expected, rtol=0, atol=5e-7)
    np.testing.assert_array_equal(y, before)


def test_mix_at_the_ends() -> None:
    """α = 0 keeps the one, α = 1 takes the other, exactly."""
    x, y = two_vectors(1000)
    kept = x.copy()
    mix(x, y, 0.0)
    np.testing.assert_array_equal(x, kept)
    mix(x, y, 1.0)
    np.testing.assert_array_equal(x, y)


def test_scale_and_divide() -> None:
    """A vector can be scaled into another, and divided in place."""
    x, y = two_vectors(BLOCK + 3)
    scale_into(x, y, 4.0)
    np.testing.assert_array_equal(x, y * np.float32(4.0))
    divide(x, 3)
    np.testing.assert_array_equal(x, (y.astype(np.float64) * 4.0 / 3.0).astype(np.float32))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=60))
def test_norm_is_the_float64_norm(values: list[float]) -> None:
    """The norm agrees with an exact summation, even where float32 squares would overflow or vanish."""
    expected = math.sqrt(math.fsum(value * value for value in values))
    assert norm_and_finite(np.array(values, np.float32)) == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_norm_sums_over_blocks() -> None:
    """The norm of ones is the root of their number, across blocks."""
    for size in SIZES:
        assert norm_and_finite(np.ones(size, np.float32)) == math.sqrt(size)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, BLOCK + 9])
def test_norm_shows_any_element_that_is_not_finite(bad: float, place: int) -> None:
    """One NaN or infinity anywhere makes the norm not finite, without a warning."""
    values = np.zeros(BLOCK + 10, np.float32)
    values[place] = bad
    assert not math.isfinite(norm_and_finite(values))


def test_the_largest_finite_vector_is_finite() -> None:
    """No float32 vector of finite elements overflows the norm."""
    assert math.isfinite(norm_and_finite(np.full(BLOCK + 1, np.finfo(np.float32).max, np.float32)))


@pytest.mark.parametrize("kernel", [add_scaled, mix, scale_into])
def test_vectors_of_different_sizes_never_meet(kernel: object) -> None:
    """A vector of one element is not stretched over the other."""
    with pytest.raises(InvariantError, match=r"\[4\] and \[1\]"):
        kernel(np.zeros(4, np.float32), np.ones(1, np.float32), 0.5)  # type: ignore[operator]


@pytest.mark.parametrize(
    "slices", [[slice(0, 3)], [slice(0, 2), slice(3, 4)], [slice(1, 4)], [slice(0, 3), slice(2, 4)], []]
)
def test_segments_must_cover_the_vector(slices: list[slice]) -> None:
    """A gap, an overlap or an uncovered end is a bug."""
    with pytest.raises(InvariantError):
        Segments(slices, 4)
