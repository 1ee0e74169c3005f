"""Availability: a device that is there leaves later, and one that is away comes back, or never."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from coordinator.simulation.fleet.availability import DAY, Daily, Traced

MOMENTS = st.floats(0, 10 * DAY)


@given(start=st.floats(0, DAY, exclude_max=True), length=st.floats(60, DAY - 60), moment=MOMENTS)
def test_a_daily_device_is_there_once_a_day(start: float, length: float, moment: float) -> None:
    """For its time, no longer; when it comes back it is there."""
    daily = Daily(start, length)
    leaves, returns = daily.leaves_at(moment), daily.returns_at(moment)
    assert moment <= leaves <= moment + length + 1e-3
    assert moment <= returns <= moment + DAY
    assert daily.leaves_at(returns + 0.01) > returns


def test_a_device_that_is_there_all_day_never_leaves() -> None:
    """Not even at midnight."""
    assert Daily(3600.0, DAY).leaves_at(5.0) == math.inf


def test_a_trace_says_when() -> None:
    """Between its stretches the device is away; after the last it never comes back."""
    trace = Traced([10.0, 50.0], [20.0, 60.0])
    assert [trace.leaves_at(moment) for moment in (5.0, 10.0, 19.0, 20.0, 55.0, 70.0)] == [5, 20, 20, 20, 60, 70]
    assert [trace.returns_at(moment) for moment in (5.0, 20.0, 60.0)] == [10, 50, math.inf]
