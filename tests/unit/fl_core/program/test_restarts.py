"""Deaths in a row: pauses grow, a row ends, and a child that is no use is given up."""

from __future__ import annotations

import math

import pytest

from fl_core.program import restarts as module
from fl_core.program.restarts import LAST_PAUSE_SECONDS, Restarts


def test_pauses_grow_to_a_bound_and_end() -> None:
    """So many in a row, and no more."""
    restarts = Restarts(most=12, calm_seconds=math.inf)
    pauses = [restarts.pause_after_death() for _ in range(12)]
    assert pauses[:3] == [0.2, 0.4, 0.8]
    assert pauses[10] == LAST_PAUSE_SECONDS
    assert pauses[11] is None


def test_work_ends_a_row() -> None:
    """Whatever it dies of next is something new."""
    restarts = Restarts(most=3, calm_seconds=math.inf)
    assert [restarts.pause_after_death(), restarts.pause_after_death()] == [0.2, 0.4]
    restarts.note_work()
    assert restarts.pause_after_death() == 0.2
    assert restarts.in_a_row == 1


def test_a_life_of_some_length_ends_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it did nothing that anybody noted."""
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    restarts = Restarts(most=3, calm_seconds=60.0)
    assert [restarts.pause_after_death(), restarts.pause_after_death()] == [0.2, 0.4]
    restarts.note_start()
    now = 61.0
    assert restarts.pause_after_death() == 0.2
