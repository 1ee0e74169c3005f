"""Work that fits a device: within the spec's bounds, and within the time where the bounds allow it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.spec import TrainingSection
from fl_core.training.local import LocalTraining
from fl_core.training.pace import SpeedProfile, fit_work


@given(
    pace=st.floats(1e-3, 1e3),
    seconds=st.floats(1e-9, 1e3),
    steps=st.tuples(st.integers(1, 50), st.integers(1, 500)),
    sizes=st.tuples(st.integers(1, 64), st.integers(1, 64)),
)
def test_the_work_stays_within_bounds_and_in_time(
    pace: float, seconds: float, steps: tuple[int, int], sizes: tuple[int, int]
) -> None:
    """Steps and batch size keep to the spec; the time is kept unless even the least work is too much for the device,
    and at most one step's worth of it is left unused unless that is the most work allowed."""
    section = TrainingSection(
        pace_seconds=pace, batch_size=max(sizes), min_batch_size=min(sizes), min_steps=min(steps), max_steps=max(steps)
    )
    work = fit_work(section, seconds)
    assert work.local_steps is not None
    assert section.min_steps <= work.local_steps <= section.max_steps
    assert section.min_batch_size <= work.batch_size <= section.batch_size
    takes = work.local_steps * work.batch_size * seconds
    least = section.min_steps * section.min_batch_size * seconds
    assert takes <= pace * (1 + 1e-9) or takes <= least * (1 + 1e-9)
    if work.local_steps < section.max_steps and work.local_steps > section.min_steps:
        assert work.batch_size == section.batch_size
        assert takes + section.batch_size * seconds > pace * (1 - 1e-9)


@given(st.floats(1e-6, 1.0), st.floats(1.0, 100.0))
def test_a_faster_device_does_no_less(seconds: float, times: float) -> None:
    """A device that is so many times faster goes through at least as many examples."""
    section = TrainingSection(pace_seconds=1.0)
    slow, fast = fit_work(section, seconds), fit_work(section, seconds / times)
    assert (fast.local_steps or 0) * fast.batch_size >= (slow.local_steps or 0) * slow.batch_size


def test_without_a_pace_nothing_changes() -> None:
    """The settings come back as they were, whatever the speed."""
    section = TrainingSection(local_steps=3)
    assert fit_work(section, 0.001) is section


# -- the measured speed ----------------------------------------------------------------------------------------------


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
