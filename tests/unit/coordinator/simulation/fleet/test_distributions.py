"""Distributions: what is drawn has the moments that its formula says, keeps its bounds, and follows its seed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from coordinator.simulation.fleet.distributions import Quantity, correlated, normal_numbers, quantile

READER: TypeAdapter[Any] = TypeAdapter(Quantity)
COUNT = 200_000


def _drawn(document: Any, seed: int = 0) -> Any:
    return quantile(READER.validate_python(document), normal_numbers(seed, "speed", COUNT))


@pytest.mark.parametrize(
    ("document", "mean", "median"),
    [
        (2.5, 2.5, 2.5),
        ({"kind": "lognormal", "median": 3.0, "sigma": 0.5}, 3 * math.exp(0.125), 3.0),
        ({"kind": "half_normal", "deviation": 2.0}, 2 * math.sqrt(2 / math.pi), 2 * 0.67449),
        ({"kind": "pareto", "smallest": 1.0, "exponent": 4.0}, 4 / 3, 2**0.25),
        ({"kind": "zipf", "exponent": 1.0, "largest": 3}, 3 / (1 + 1 / 2 + 1 / 3), 1.0),
        ({"kind": "exponential", "mean": 5.0}, 5.0, 5 * math.log(2)),
        ({"kind": "uniform", "least": 1.0, "most": 3.0}, 2.0, 2.0),
        ({"kind": "empirical", "values": [1.0, 2.0, 2.0, 7.0]}, 3.0, 2.0),
    ],
)
def test_the_mean_and_the_median_are_those_of_the_formula(document: Any, mean: float, median: float) -> None:
    """Over 200,000 devices, within five standard errors or so."""
    drawn = _drawn(document)
    assert drawn.shape == (COUNT,) and np.isfinite(drawn).all()
    assert drawn.mean() == pytest.approx(mean, rel=0.02)
    assert np.median(drawn) == pytest.approx(median, rel=0.02)


def test_draws_outside_of_the_bounds_are_moved_to_them() -> None:
    """No device is infinitely slow."""
    drawn = _drawn({"kind": "pareto", "smallest": 1.0, "exponent": 0.5, "most": 100.0, "least": 1.5})
    assert drawn.min() == 1.5 and drawn.max() == 100.0


def test_the_same_seed_and_name_give_the_same_numbers_and_others_give_others() -> None:
    """What one quantity draws says nothing of another."""
    first, again = normal_numbers(1, "speed", 1000), normal_numbers(1, "speed", 1000)
    assert np.array_equal(first, again)
    for other in (normal_numbers(2, "speed", 1000), normal_numbers(1, "latency", 1000)):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.15


@pytest.mark.parametrize("correlation", [-0.8, 0.0, 0.6])
def test_correlated_quantities_have_that_correlation(correlation: float) -> None:
    """On the scale of normal numbers, which stay normal."""
    first, second = normal_numbers(0, "a", COUNT), normal_numbers(0, "b", COUNT)
    moved = correlated(first, second, correlation)
    assert np.corrcoef(first, moved)[0, 1] == pytest.approx(correlation, abs=0.01)
    assert moved.std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    "document",
    [
        -1.0, math.nan, "fast", {"kind": "normal"}, {"kind": "lognormal", "median": 0, "sigma": 1.0},
        {"kind": "uniform"},
        {"kind": "exponential", "mean": 1.0, "least": 3.0, "most": 2.0}, {"kind": "empirical", "values": []},
        {"kind": "lognormal", "median": 1.0, "sigma": 1.0, "mean": 2.0},
    ],
)  # fmt: skip
def test_what_is_no_distribution_is_refused(document: Any) -> None:
    """Each of these."""
    with pytest.raises(ValidationError):
        READER.validate_python(document)
