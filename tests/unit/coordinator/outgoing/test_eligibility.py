"""Who may still contribute to a private campaign: nobody left is its end, and nobody awake only a warning."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from coordinator.outgoing.eligibility import Eligibility
from coordinator.outgoing.lookout import Fleet
from fedtide.testing.log import LogByHand


class Machine:
    """A clock that is set by hand."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


def private(**privacy: Any) -> LogByHand:
    """Two updates make a version, and a device may be in two."""
    settings = {"mode": "central", "noise_multiplier": 1.0, "max_participations": 2, **privacy}
    log = LogByHand(privacy=settings, aggregation={"buffer_size": 2}).open(30)
    assert log.state.privacy is not None
    log.state.privacy.noise_secret = b"n" * 32
    return log


def looking(log: LogByHand, names: frozenset[str] = frozenset()) -> tuple[Eligibility, Machine]:
    """It, and its clock; ``names`` are those of a fleet that is too large to be named at each look."""
    machine = Machine()
    cadence = SimpleNamespace(nobody_left_seconds=10.0)
    ctx: Any = SimpleNamespace(machine=machine, cadence=cadence, identity=SimpleNamespace(campaign="digits-1"))
    lookout: Any = SimpleNamespace(names=lambda: names)
    return Eligibility(ctx, log.state, lookout), machine


def fleet(*names: str, silent: tuple[str, ...] = ()) -> Fleet:
    """These workers live, and those were there lately."""
    return Fleet(frozenset({"default"}), len(names), dict.fromkeys(names, True) | dict.fromkeys(silent, False))


def after(found: Eligibility, machine: Machine, there: Fleet, seconds: float = 11.0) -> bool:
    """The word of a second look."""
    found.is_nobody_left(there)
    machine.now += seconds
    return found.is_nobody_left(there)


def spend(log: LogByHand, *workers: str) -> None:
    """Each of them twice."""
    for round_ in range(2):
        for index, worker in enumerate(workers):
            log.apply(log.update(1 + round_ * len(workers) + index, worker=worker))


def test_it_is_over_when_all_that_are_there_have_spent_their_budgets() -> None:
    """For a while, since a new device may be just coming."""
    log = private()
    spend(log, "a", "b")
    found, machine = looking(log)
    assert not after(found, machine, fleet("a", "b"), seconds=5)
    assert not after(found, machine, fleet("a", "b", "c"))
    assert after(found, machine, fleet("a", "b"))


def test_a_device_that_was_there_lately_may_come_back() -> None:
    """It has a budget."""
    log = private()
    spend(log, "a", "b")
    found, machine = looking(log)
    assert not after(found, machine, fleet("a", "b", silent=("c",)))


def test_what_waits_for_one_more_update_waits_in_vain_when_the_rest_have_spent_theirs() -> None:
    """The last buffer is flushed then."""
    log = private()
    spend(log, "a", "b")
    log.apply(log.update(5, worker="c"))
    found, machine = looking(log)
    assert after(found, machine, fleet("a", "b", "c"))
    log.apply(log.event("stopped", {"reason": "privacy"}))
    assert (log.state.strategy.version, log.state.ledger.merged, log.state.stop_reason) == (3, 5, "privacy")


def test_too_few_devices_at_the_beginning_are_a_warning_and_no_end() -> None:
    """Others may yet come; it is said once a minute what is missing."""
    log = private(min_separation=3)
    log.apply(log.update(1, worker="a"))
    found, machine = looking(log)
    with structlog.testing.capture_logs() as told:
        for _ in range(5):
            assert not after(found, machine, fleet("a"))
    (line,) = told
    assert (line["devices"], line["buffered"]) == (1, 1)
    assert "nothing is merged before more devices come" in line["event"]


@pytest.mark.parametrize("live", [frozenset({"a", "b"}), frozenset({"a", "b", "c"})])
def test_of_a_large_fleet_names_are_asked_for_when_enough_are_idle(live: frozenset[str]) -> None:
    """Not at each look."""
    log = private()
    spend(log, "a", "b")
    found, machine = looking(log, live)
    assert not after(found, machine, Fleet(frozenset({"default"}), 5000, None))
    assert after(found, machine, Fleet(frozenset({"default"}), 2, None)) == (live == {"a", "b"})


def test_nobody_there_is_nobody_s_end() -> None:
    """Nor is it for a campaign without central privacy."""
    log = private()
    spend(log, "a", "b")
    found, machine = looking(log)
    assert not after(found, machine, fleet())
    found, machine = looking(LogByHand().open(1))
    assert not after(found, machine, fleet("a"))


def test_devices_with_noise_of_their_own_say_when_it_is_over() -> None:
    """Whatever the campaign's mode: a device's owner may have set a limit."""
    log = LogByHand().open(4)
    log.apply(log.report(1, outcome="budget_spent", worker="a"), log.report(2, outcome="budget_spent", worker="b"))
    found, machine = looking(log)
    assert not after(found, machine, fleet("a", "b", "c"))
    assert after(found, machine, fleet("a", "b"))
    log.apply(log.update(3, worker="b"))
    assert not after(found, machine, fleet("a", "b"))
