"""Waiting for workers: as long as something moves, and never in silence."""

from __future__ import annotations

import time

import pytest

from coordinator.launch.fleet_wait import FleetWait
from fl_core.errors import CampaignError


class _Fleet:
    """What a fleet knows of its processes."""

    gone: set[str] = set()  # noqa: RUF012

    def check(self) -> None: ...

    def ended(self) -> set[str]:
        return self.gone

    def last_words(self, name: str) -> str:
        return f"{name} was loading torch"


def test_whoever_gets_further_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock begins again with each sign of life; it is told whom the wait is for, and now and then again."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    said: list[str] = []
    wait = FleetWait(_Fleet(), "load torch", said.append, seconds=60.0)  # type: ignore[arg-type]
    for step in range(20):  # 20 times 50 s, in which something changes each time
        wait.look({"fast-2", "slow-0"}, step)
        now += 50
    assert said[0] == "waiting for fast-2, slow-0 to load torch (0 s)"
    assert said[-1] == "waiting for fast-2, slow-0 to load torch (950 s)"
    wait.look({"fast-2"}, 19)
    now += 59
    wait.look({"fast-2"}, 19)
    now += 2
    with pytest.raises(CampaignError, match=r"waited 60 s for worker fast-2 to load torch.*fast-2 was loading torch"):
        wait.look({"fast-2"}, 19)


def test_a_worker_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last words are the reason, at once; one that is not waited for may end."""
    fleet = _Fleet()
    wait = FleetWait(fleet, "load torch", print)  # type: ignore[arg-type]
    monkeypatch.setattr(fleet, "gone", {"slow-0"})
    wait.look({"fast-2"})
    with pytest.raises(CampaignError, match="worker slow-0 has ended; it said: slow-0 was loading torch"):
        wait.look({"fast-2", "slow-0"})
