"""A curve in one line: the newest value is the last bar, and the lowest and the highest are told apart."""

from __future__ import annotations

import pytest

from coordinator.terminal.sparkline import BARS, sparkline


def test_it_shows_the_newest_value_and_no_more_bars_than_there_is_room() -> None:
    """However long the curve, the last bar is the last value."""
    assert sparkline([0.0] * 99 + [1.0], 10) == "▁" * 9 + "█"
    assert len(sparkline([float(number) for number in range(1000)], 10)) == 10
    assert sparkline([float(number) for number in range(8)], 8) == BARS


@pytest.mark.parametrize(("values", "shown"), [([], ""), ([0.5], "▁"), ([2.0, 2.0], "▁▁")])
def test_short_and_flat_curves(values: list[float], shown: str) -> None:
    """Nothing is shown as nothing, and what does not move lies low."""
    assert sparkline(values, 10) == shown
