"""A curve as numbers: against the statistics module, and between the bounds that any mean has."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coordinator.report.curve import first_met, pieces, running_median, speed
from fl_core.spec import StopMetric


@given(st.lists(st.none() | st.floats(0, 1), max_size=20))
def test_pieces_are_the_curve_without_its_gaps(values: list[float | None]) -> None:
    """All points that are there, in order, and a break exactly where one is absent."""
    found = pieces(list(enumerate(values)))
    assert [point for piece in found for point in piece] == [(x, y) for x, y in enumerate(values) if y is not None]
    assert all(second[0] == first[0] + 1 for piece in found for first, second in itertools.pairwise(piece))
    assert all(later[0][0] > before[-1][0] + 1 for before, later in itertools.pairwise(found))


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1)), max_size=30), st.floats(0, 1))
def test_the_first_that_meets_a_target(points: list[tuple[float, float]], target: float) -> None:
    """No earlier point reaches the target, and the point itself does."""
    higher, lower = StopMetric(name="f1", at_least=target), StopMetric(name="mae", at_most=target)
    for aim, meets in ((higher, float.__ge__), (lower, float.__le__)):
        reached = [index for index, (_, value) in enumerate(points) if meets(float(value), float(target))]
        assert first_met(points, aim) == (points[reached[0]][0] if reached else None)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=80), st.integers(1, 21))
def test_the_running_median_is_the_median_of_the_neighbours(values: list[int], window: int) -> None:
    """Each point against the statistics module, over the neighbours that exist."""
    half = window // 2
    points = running_median(values, window, num_points=25)
    assert points[0][0] == 0
    assert points[-1][0] == len(values) - 1
    for index, median in points:
        assert median == statistics.median(values[max(0, index - half) : index + half + 1])


@given(st.lists(st.floats(0.01, 50), min_size=1, max_size=60))
def test_the_speed_lies_between_the_slowest_and_the_fastest_interval(times: list[float]) -> None:
    """A mean of the intervals' speeds: never below 0, never above the fastest interval, and 0 after the last merge."""
    merges = np.unique(np.round(times, 2))
    moments, rates = speed([float(t) for t in merges], end=100.0)
    fastest = 1.0 / np.diff(np.concatenate([[0.0], merges])).min()
    assert len(moments) == len(rates)
    assert rates.min() >= -1e-9
    assert rates.max() <= fastest * (1 + 1e-9)
    assert (rates[moments > 55.0] == 0).all()


def test_a_steady_cohort_has_a_level_speed() -> None:
    """Eight updates every two seconds are four a second, from the beginning to the end."""
    _, rates = speed([2.0 * cohort for cohort in range(1, 41) for _ in range(8)], end=80.0)
    np.testing.assert_allclose(rates, 4.0)
