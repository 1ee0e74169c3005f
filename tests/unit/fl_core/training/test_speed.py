"""How fast a device has been."""

from __future__ import annotations

import pytest

from fl_core.training.local import LocalTraining
from fl_core.training.speed import SpeedProfile


def _training(seconds: float, num_seen: int) -> LocalTraining:
    return LocalTraining(10, 1, 0.0, {}, seconds, num_seen)


def test_the_newest_task_has_half_the_weight() -> None:
    """Seconds per example of 4, 2 and 1 are 4, 3 and 2, after a first task that only stands in for the second."""
    profile, found = SpeedProfile(), []
    for seconds in (900.0, 40.0, 20.0, 10.0):
        profile.note("digits", _training(seconds, 10))
        found.append(profile.seconds_per_example("digits"))
    assert found == pytest.approx([90.0, 4.0, 3.0, 2.0])


def test_campaigns_have_speeds_of_their_own_and_old_ones_are_forgotten() -> None:
    """Models differ in cost; the seventeenth campaign pushes out the one noted longest ago."""
    profile = SpeedProfile()
    for number in range(17):
        profile.note(f"c-{number}", _training(float(number + 1), 1))
        profile.note("c-0", _training(1.0, 1))
    assert profile.seconds_per_example("c-0") == 1.0
    assert profile.seconds_per_example("c-1") is None
    assert profile.seconds_per_example("c-16") == 17.0


def test_a_method_that_counts_nothing_teaches_nothing() -> None:
    """There is no division by 0, and what was known stays."""
    profile = SpeedProfile()
    profile.note("digits", _training(1.0, 0))
    assert profile.seconds_per_example("digits") is None
