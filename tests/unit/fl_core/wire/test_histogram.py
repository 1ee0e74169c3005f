"""Histograms: each value in one bucket, quantiles inside the right one, and the form that the wire has."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.wire.histogram import Histogram, histograms, histograms_from_map, histograms_to_map

BOUNDS = (0.0, 1.0, 3.0)


@given(st.lists(st.floats(0, 10), min_size=1))
def test_every_value_is_counted_once_below_its_bound(values: list[float]) -> None:
    """The running counts are what a look at all values gives, and a quantile lies in the bucket of its rank."""
    found = Histogram(BOUNDS)
    for value in values:
        found.add(value)
    expected = [sum(value <= bound for value in values) for bound in (*BOUNDS, math.inf)]
    assert [count for _, count in found.cumulative()] == expected
    assert found.total == len(values)
    assert found.mean == pytest.approx(sum(values) / len(values))
    median = found.quantile(0.5)
    assert median is not None
    rank = sorted(values)[math.ceil(len(values) / 2) - 1]
    below = max((bound for bound in BOUNDS if bound < rank), default=0.0)
    assert below - 1e-4 <= median <= next((bound for bound in BOUNDS if bound >= rank), BOUNDS[-1]) + 1e-4


@pytest.mark.parametrize(("share", "expected"), [(0.5, 1.5), (1.0, 2.0)])
def test_quantiles_interpolate_inside_a_bucket(share: float, expected: float) -> None:
    """Ten values between 1 and 2 are taken to lie evenly; of none there is no quantile."""
    assert Histogram((1.0, 2.0), [0, 10, 0]).quantile(share) == expected
    assert Histogram((1.0, 2.0)).quantile(share) is None
    assert Histogram((1.0, 2.0), [0, 0, 3]).quantile(share) == 2.0


def test_maps_come_back() -> None:
    """One alone, whose sum stays a whole number where the values are; and several over the same bounds."""
    one = Histogram.of((0, 2), [(0, 5), (7, 2)])
    assert json.dumps(one.to_map()) == '{"bounds": [0, 2], "counts": [5, 0, 2], "sum": 14}'
    assert Histogram.from_map(one.to_map()) == one
    several = histograms(("a", "b"), BOUNDS)
    several["b"].add(2.0)
    told = histograms_to_map(several)
    assert told["bounds"] == [0.0, 1.0, 3.0]
    assert (told["sums"], told["counts"]) == ({"a": 0.0, "b": 2.0}, {"a": [0] * 4, "b": [0, 0, 1, 0]})
    assert histograms_from_map(told) == several
