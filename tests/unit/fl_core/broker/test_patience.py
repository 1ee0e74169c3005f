"""Patience with the broker, by a clock that is moved by hand."""

from __future__ import annotations

import threading

import pytest

from fl_core.broker.patience import DEVICE_QUIET_SECONDS, MAX_REASONS, Outage, device_outage, patiently
from fl_core.clock import Clock
from fl_core.errors import BrokerRefused, BrokerUnavailable, BrokerUnfit, MissingBlob


class _Hand(Clock):
    """Time passes where somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float, until: threading.Event | None = None) -> bool:
        self.now += seconds
        return False


def _words(outage: Outage, clock: _Hand, seconds: float) -> list[float]:
    """When something was said."""
    said, began = [], clock.now
    while clock.now < began + seconds:
        if outage.is_worth_a_word(BrokerUnavailable("no answer")):
            said.append(round(clock.now - began))
        clock.wait(0.5)
    return said


def test_an_outage_is_told_at_once_and_then_less_and_less_often() -> None:
    """Never less than once a minute: somebody who looks at the log sees that it goes on."""
    clock = _Hand()
    assert _words(Outage(clock), clock, 300) == [0, 10, 30, 70, 130, 190, 250]
    outage = Outage(clock, quiet_seconds=10.0)
    assert _words(outage, clock, 25) == [10, 20]


def test_a_new_reason_is_told_at_once() -> None:
    """And each of them once out of turn, however often they change places and whatever the server adds to them."""
    clock = _Hand()
    outage, told = Outage(clock), []
    for reason in ("no answer", "read-only (line 60)", "read-only (line 53)", "no answer", "no right"):
        clock.wait(1.0)
        told.append(outage.is_worth_a_word(BrokerUnavailable(reason)))
    assert told == [True, True, False, False, True]
    assert sum(outage.is_worth_a_word(BrokerUnavailable(f"{n}")) for n in range(100)) == MAX_REASONS - 3
    assert not Outage(clock, quiet_seconds=10.0).is_worth_a_word(BrokerUnavailable("no answer"))


def test_pauses_grow_to_a_bound() -> None:
    """Nobody is away for long after the broker is back."""
    outage = Outage(_Hand(), last_pause_seconds=2.0)
    pauses = [outage.next_pause() for _ in range(20)]
    assert pauses[0] == pytest.approx(0.1)
    assert pauses == sorted(pauses)
    assert pauses[-1] == 2.0


def test_refused_is_told_from_away() -> None:
    """Each change is news, and the time of refusals begins again with the first one after an absence."""
    clock = _Hand()
    outage, away, refused = Outage(clock), BrokerUnavailable("no answer"), BrokerRefused("no right")
    assert [outage.note(error) for error in (away, away, refused, refused)] == [True, False, True, False]
    clock.wait(7.0)
    assert (outage.refused_seconds, outage.seconds) == (7.0, 7.0)
    assert outage.note(away)
    assert outage.refused_seconds == 0.0
    clock.wait(1.0)
    outage.note(refused)
    assert outage.refused_seconds == 0.0


def test_what_needs_the_broker_is_done_as_often_as_it_takes() -> None:
    """What another attempt does not mend comes through at once."""
    clock, left = _Hand(), [BrokerUnavailable("away"), MissingBlob("gone"), BrokerUnavailable("away")]

    def action() -> str:
        if left:
            raise left.pop(0)
        return "done"

    assert patiently(action, clock=clock, begin=lambda: Outage(clock), also=(MissingBlob,)) == "done"
    assert clock.now > 100.0
    left.append(BrokerUnfit("a cluster"))
    with pytest.raises(BrokerUnfit):
        patiently(action, clock=clock)


def test_a_device_says_nothing_of_a_moment() -> None:
    """Every worker of a fleet would, at each restart of the broker."""
    assert DEVICE_QUIET_SECONDS > 0
    assert not device_outage().is_worth_a_word(BrokerUnavailable("no answer"))
