"""Breakers: a campaign that fails is left alone for longer and longer, and its neighbours are not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fl_core.wire.messages import TaskCall
from workers import breaker
from workers.breaker import Breakers


class Clock:
    """Stands until it is moved."""

    now = 1000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """What the breakers take for the time."""
    clock = Clock()
    monkeypatch.setattr(breaker.time, "monotonic", lambda: clock.now)
    yield clock


def _call(number: int, campaign: str = "bad", attempt: int = 1) -> TaskCall:
    return TaskCall(campaign=campaign, task_id=f"{number}-a", attempt=attempt, queue="default")


def test_the_time_doubles_and_others_are_not_concerned(clock: Clock) -> None:
    """0.5 s, 1 s, 2 s, ... 30 s; a task that works ends it at once."""
    breakers, pauses = Breakers(), []
    for number in range(9):
        breakers.failed("bad", 0.0, "no")
        start = clock.now
        assert breakers.choose(_call(number)) is None
        assert breakers.choose(_call(number, "good")) == _call(number, "good")
        while breakers.choose(_call(number)) is None:
            clock.now += 0.25
        pauses.append(clock.now - start)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert breakers.trouble().startswith("bad: 9 failures in a row")
    breakers.worked("bad")
    assert breakers.choose(_call(1)) == _call(1)
    assert breakers.trouble() == ""


def test_what_takes_long_to_fail_is_tried_less(clock: Clock) -> None:
    """A failure that costs 5 s may not come more than once in 100 s, but for the first."""
    breakers = Breakers()
    breakers.failed("bad", 5.0, "no")
    clock.now += 0.5
    assert breakers.choose(_call(1)) == _call(1)
    breakers.failed("bad", 5.0, "no")
    clock.now += 99.0
    assert breakers.choose(_call(1)) is None
    clock.now += 1.0
    assert breakers.choose(_call(1)) == _call(1)


def test_the_task_that_was_seen_first_is_tried_first(clock: Clock) -> None:
    """Coordinators take a task that is older than those that failed for one in other hands."""
    breakers = Breakers()
    breakers.failed("bad", 0.0, "no")
    for number in (1, 2, 3):
        assert breakers.choose(_call(number)) is None
    clock.now += 1.0
    assert breakers.choose(_call(3)) == _call(1)
    assert breakers.choose(_call(1, attempt=2)) == _call(2)


def test_a_campaign_that_may_have_nothing_more_is_left_alone(clock: Clock) -> None:
    """That is told once, shown all the time, and tried again every ten minutes; it is no failure."""
    breakers = Breakers()
    assert breakers.rest("spent", "its budget is spent")
    assert not breakers.rest("spent", "its budget is spent")
    assert breakers.trouble() == "spent: its budget is spent"
    clock.now += 599.0
    assert breakers.choose(_call(1, "spent")) is None
    clock.now += 1.0
    assert breakers.choose(_call(2, "spent")) == _call(1, "spent")


def test_a_device_that_is_told_to_wait_asks_again_later_and_is_in_no_trouble(clock: Clock) -> None:
    """Until a newer version for a moment, and for good for long; other answers change nothing."""
    breakers = Breakers()
    assert not breakers.waits("a", "gone")
    assert breakers.trouble() == ""
    assert breakers.waits("a", "resting")
    assert breakers.choose(_call(1, "a")) is None
    clock.now += 0.6
    assert breakers.choose(_call(2, "a")) == _call(1, "a")
    assert "rests until a newer version" in breakers.trouble()
    assert not breakers.worked("b")
    assert breakers.waits("a", "spent")
    assert "has spent its privacy budget" in breakers.trouble()
