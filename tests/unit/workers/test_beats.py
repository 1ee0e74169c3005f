"""When a worker beats, and what it makes of a broker that does not hear it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.overview.roster import BEAT_SECONDS, IDLE_BEAT_SECONDS, Roster
from fl_core.errors import BrokerRefused, BrokerUnavailable
from fl_core.wire.messages import Beat
from workers.beats import NEWS_SECONDS, Beats
from workers.kept import Kept
from workers.pulse import Pulse, Vitals
from workers.settings import WorkerSettings


class PlayedStanding:
    """What the federation would say of this device."""

    def __init__(self) -> None:
        self.is_known, self.said, self.asked = False, "", 0

    def exclusion(self) -> str:
        self.asked += 1
        return self.said


class World:
    """A worker's parent with a clock that is moved by hand."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("workers.beats.time.monotonic", lambda: self.now)
        self.roster = Roster(MemoryClient(MemoryServer()))
        self.pulse, self.kept, self.leaving = Pulse(), Kept(), threading.Event()
        self.standing = PlayedStanding()
        self.sent: list[Beat] = []
        self.ended: list[str] = []
        self.answer: Callable[[], None] = lambda: None
        monkeypatch.setattr(self.roster, "beat", self._beat)
        settings = WorkerSettings(broker="redis://127.0.0.1:1/0", data="a:b", name="pi", state_dir=tmp_path)
        self.beats = Beats(
            settings,
            self.roster,
            self.pulse,
            self.kept,
            self.leaving,
            self.standing,  # type: ignore[arg-type]
            end=lambda reason, at_once: self.ended.append(("now: " if at_once else "") + reason),
            refused_seconds=60.0,
        )

    def _beat(self, beat: Beat) -> None:
        self.sent.append(beat)
        self.answer()

    def look_for(self, seconds: float) -> int:
        """Look five times a second; how many beats were sent."""
        before, end = len(self.sent), self.now + seconds
        while self.now < end:
            self.beats.look()
            self.now += 0.2
        return len(self.sent) - before


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_who_waits_beats_seldom_and_who_works_often(world: World) -> None:
    """A task's coming and going is said within a second."""
    world.beats.note_listening()
    assert world.look_for(IDLE_BEAT_SECONDS) == 1
    world.pulse.write(Vitals(pid=1, state="training", holding="digits-1/1-ab#1"))
    assert world.look_for(NEWS_SECONDS) == 1
    assert world.sent[-1].holding == "digits-1/1-ab#1"
    assert world.beats.wanted_in() <= BEAT_SECONDS
    assert world.look_for(5 * BEAT_SECONDS) in (4, 5)
    world.leaving.set()
    assert world.look_for(NEWS_SECONDS + 0.2) == 1
    assert world.sent[-1].state == "leaving"


def test_an_update_that_is_delivered_beside_is_said_where_the_child_has_none(world: World) -> None:
    """Its task must not be missed."""
    world.kept.holding = "digits-1/1-ab#1"
    world.beats.look()
    assert (world.sent[-1].state, world.sent[-1].holding) == ("delivering", "digits-1/1-ab#1")
    world.pulse.write(Vitals(pid=1, state="training", holding="digits-1/2-ab#1"))
    world.look_for(BEAT_SECONDS)
    assert (world.sent[-1].state, world.sent[-1].holding) == ("training", "digits-1/2-ab#1")


def test_a_broker_that_is_away_is_told_once_and_waited_for(world: World) -> None:
    """For ever."""
    world.answer = _be_away
    with capture_logs() as told:
        world.look_for(600)
        assert world.beats.broker_is_away
        world.answer = lambda: None
        world.look_for(BEAT_SECONDS)
    assert not world.beats.broker_is_away
    assert [line["event"] for line in told] == ["the broker is away; training goes on", "the broker is back"]
    assert world.ended == []


def test_a_broker_that_refuses_ends_the_worker_after_a_while(world: World) -> None:
    """Rights are edited in moments; what lies before the last absence does not count."""
    world.answer = _refuse
    world.look_for(50)
    assert world.ended == []
    world.answer = _be_away
    world.look_for(5)
    world.answer = _refuse
    world.look_for(50)
    assert world.ended == []
    world.look_for(20)
    assert "has refused this worker for 60 s" in world.ended[0]


def _refuse() -> None:
    raise BrokerRefused("sending a beat: the broker does not let this user in")


def _be_away() -> None:
    raise BrokerUnavailable("sending a beat: the broker does not answer")


def test_a_device_that_was_sent_away_ends_at_once(world: World) -> None:
    """As soon as it is refused; and it is refused as soon as its connection is cut, not when a beat is due."""
    world.standing.is_known = True
    world.beats.note_listening()
    world.look_for(1.0)
    world.answer = _refuse
    world.standing.said = "revoked"
    world.beats.note_cut()
    assert world.look_for(0.2) == 1
    assert world.ended == ["now: revoked"]


def test_a_device_that_nobody_sent_away_waits_for_a_broker_that_lost_its_users(world: World) -> None:
    """For an hour, saying so at least once a minute, and asking seldom; a broker that is away is asked nothing."""
    world.standing.is_known = True
    world.beats.note_listening()
    world.answer = _be_away
    world.look_for(30.0)
    world.beats.note_cut()
    assert world.look_for(BEAT_SECONDS) == 1  # not once more for it
    assert world.standing.asked == 0
    world.answer = _refuse
    with capture_logs() as logs:
        world.look_for(600.0)
    assert (world.ended, len(logs)) == ([], world.standing.asked)
    assert 10 < world.standing.asked < 20
    assert "`fedtide authority users`" in logs[0]["remedy"]
    world.answer = lambda: None
    with capture_logs() as logs:
        world.look_for(BEAT_SECONDS)
    assert [line["event"] for line in logs] == ["the broker is back"]
    world.answer = _refuse
    world.look_for(3700.0)
    assert "has refused this worker for 3600 s" in world.ended[0]
