"""Every staleness weight starts at 1, stays in (0, 1], never increases, and is the published formula."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation.staleness import constant_weight, hinge_weight, polynomial_weight, staleness_weight
from fl_core.errors import InvariantError
from fl_core.spec import AggregationSection

sections = st.builds(
    AggregationSection,
    staleness=st.sampled_from(["constant", "polynomial", "hinge"]),
    polynomial_exponent=st.floats(0.0, 10.0),
    hinge_slope=st.floats(1e-3, 1e3),
    hinge_threshold=st.integers(0, 100),
)


@given(section=sections, staleness=st.integers(0, 10**6), more=st.integers(0, 10**6))
def test_weight_properties(section: AggregationSection, staleness: int, more: int) -> None:
    """s(0) = 1, 0 < s <= 1, and more staleness never weighs more, whatever the constants."""
    weigh = staleness_weight(section)
    assert weigh(0) == 1.0
    assert 0.0 < weigh(staleness) <= 1.0
    assert weigh(staleness + more) <= weigh(staleness)


@given(st.integers(0, 10**6))
def test_default_is_one_over_the_root_of_one_plus_staleness(staleness: int) -> None:
    """The default weight is FedBuff's 1/sqrt(1 + τ), and not 1/(1 + sqrt(τ))."""
    assert staleness_weight(AggregationSection())(staleness) == pytest.approx(1.0 / math.sqrt(1 + staleness), rel=1e-14)


@pytest.mark.parametrize(("staleness", "expected"), [(0, 1.0), (4, 1.0), (5, 1 / 11), (6, 1 / 21), (54, 1 / 501)])
def test_hinge_is_the_papers(staleness: int, expected: float) -> None:
    """With a = 10 and b = 4 the weight is 1 up to 4, then 1/(10 (τ - 4) + 1)."""
    assert hinge_weight(staleness) == pytest.approx(expected, rel=1e-15)


def test_spec_constants_are_used() -> None:
    """The exponent, slope and threshold of the spec reach the formula."""
    assert staleness_weight(AggregationSection(polynomial_exponent=2.0))(3) == 1 / 16
    hinge = AggregationSection(staleness="hinge", hinge_slope=0.5, hinge_threshold=2)
    assert [staleness_weight(hinge)(value) for value in (2, 4)] == [1.0, 0.5]
    assert staleness_weight(AggregationSection(staleness="constant"))(1000) == 1.0


@pytest.mark.parametrize("weigh", [constant_weight, polynomial_weight, hinge_weight])
def test_negative_staleness_is_a_bug(weigh: Callable[[int], float]) -> None:
    """An update from the future never gets a weight."""
    with pytest.raises(InvariantError, match="-1"):
        weigh(-1)
