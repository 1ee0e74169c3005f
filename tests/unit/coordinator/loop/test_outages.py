"""What needs the broker is done again and again while it is away, and everybody who has to know of it does."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from coordinator.loop import outages as outages_module
from coordinator.loop.outages import Outages
from fl_core.errors import BrokerUnavailable, BrokerUnfit, CampaignError
from tests.unit.coordinator.stand_ins import FakeClock, context


class Noting:
    """Stands for checkpoints and for the surveyor: remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.told.append(name)


class Away:
    """Fails so many times, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def _outages(**given: Any) -> tuple[Outages, FakeClock, Noting]:
    clock, noting = FakeClock(), Noting()
    checkpoints: Any = noting
    interrupted = given.get("interrupted", threading.Event())
    look_after = given.get("look_after", lambda: None)
    made = Outages(context(machine=clock), interrupted, look_after, checkpoints, checkpoints)
    return made, clock, noting


def test_an_action_is_repeated_until_the_broker_is_back() -> None:
    """With growing pauses; a checkpoint covers what was applied, and nobody is judged by an old beat."""
    outages, clock, noting = _outages()
    assert outages.through(Away(*[BrokerUnavailable("away")] * 5)) == "done"
    assert clock.waits == sorted(clock.waits)
    assert len(clock.waits) == 5
    assert noting.told == ["save_soon", "wait_for_beats"] * 5 + ["note_server"]


def test_what_the_broker_does_not_take_part_in_costs_nothing() -> None:
    """No pause, and nobody hears of it."""
    outages, clock, noting = _outages()
    assert outages.through(Away()) == "done"
    assert (clock.waits, noting.told) == ([], [])


def test_ctrl_c_ends_the_waiting_in_one_sentence() -> None:
    """What was merged is in the last checkpoint and in the log."""
    interrupted = threading.Event()
    interrupted.set()
    outages, _, _ = _outages(interrupted=interrupted)
    with pytest.raises(CampaignError, match="interrupted while the broker was away; go on with --resume"):
        outages.through(Away(BrokerUnavailable("away")))


def test_what_looks_after_the_fleet_may_end_it() -> None:
    """Workers of this machine are looked after while the broker is away as well."""

    def look_after() -> None:
        raise CampaignError("all workers have ended")

    outages, _, _ = _outages(look_after=look_after)
    with pytest.raises(CampaignError, match="all workers have ended"):
        outages.through(Away(BrokerUnavailable("away")))


@pytest.mark.parametrize("strange", [["fedtide:x"], []])
def test_keys_that_somebody_has_written_over_are_taken_back(
    monkeypatch: pytest.MonkeyPatch, strange: list[str]
) -> None:
    """And what they held is restored like any other loss; where there are none, it is another fault, and raised."""
    monkeypatch.setattr(outages_module, "drop_strangers", lambda client, keys, queues: strange)
    outages, _, _ = _outages()
    if not strange:
        with pytest.raises(BrokerUnfit):
            outages.through(Away(BrokerUnfit("WRONGTYPE")))
        return
    assert outages.through(Away(BrokerUnfit("WRONGTYPE"))) == "done"
    assert outages.loss is not None
    assert "held something else" in str(outages.loss)
