"""Which tasks go out and which are given up, decided from values: nothing here knows a broker."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from coordinator.campaign.ledger import Ledger
from coordinator.outgoing.dispatcher import DEVICE_GRACE_SECONDS, MAX_ISSUED, Dispatcher
from coordinator.outgoing.lookout import Fleet, Sightings
from fl_core.broker.overview.roster import BEAT_SECONDS
from fl_core.broker.task_rows import ANSWERED, Owner
from fl_core.spec import DispatchSection
from fl_core.wire.messages import holding_name
from tests.unit.coordinator.stand_ins import IDENTITY, FakeClock

LEASE, TIMEOUT = 10.0, 60.0
NOW_MS = 1_000_000


def _dispatcher(*queues: str, concurrency: int = 4, clock: FakeClock | None = None) -> Dispatcher:
    settings = DispatchSection(
        queues=queues or ("default",), concurrency=concurrency, lease_seconds=LEASE, task_timeout_seconds=TIMEOUT
    )
    return Dispatcher(settings, IDENTITY, clock or FakeClock())


def _out(count: int, *, seconds_ago: float = 1.0, queue: str = "default") -> Ledger:
    ledger = Ledger()
    ledger.issue([queue] * count, NOW_MS - round(1000 * seconds_ago))
    return ledger


def _seen(*, claimed_ago: float, silent: float = 1.0, holds: bool = True) -> Sightings:
    """Task 1, attempt 1, in the hands of ``w``."""
    holding = holding_name(IDENTITY.campaign, IDENTITY.task_id(1), 1) if holds else ""
    owner = Owner("w", NOW_MS - round(1000 * claimed_ago))
    return Sightings({1: owner}, {"w": (silent, holding)}, {"default": 0}, NOW_MS, NOW_MS)


def _reasons(
    dispatcher: Dispatcher, ledger: Ledger, seen: Sightings, said: int | None = None, **how: Any
) -> list[tuple[int, str, str]]:
    """What is given up, where the owner of task 1 says this of it."""
    ask = lambda owned: {task.number: said for task, _ in owned if said is not None}  # noqa: E731
    survey = dispatcher.survey(ledger, seen, ask, **{"judge_workers": True, **how})
    return [(task.number, queue, reason) for task, queue, reason in survey.abandoned]


def nobody(owned: Any) -> dict[int, int]:
    """Owners who say nothing."""
    return {}


# -- issuing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_open", "pending", "room"), [(0, 0, 4), (1, 2, 1), (4, 0, 0), (2, 5, 0)])
def test_as_many_are_issued_as_there_is_room_for(num_open: int, pending: int, room: int) -> None:
    """What is written and not read back yet counts as out."""
    assert _dispatcher().plan(_out(num_open), pending=pending, barrier=False) == ["default"] * room


def test_a_cohort_is_issued_as_one_and_anything_else_a_part_at_a_time() -> None:
    """A cohort waits until its last task has ended and been merged."""
    dispatcher = _dispatcher(concurrency=3 * MAX_ISSUED)
    assert len(dispatcher.plan(Ledger(), pending=0, barrier=True)) == 3 * MAX_ISSUED
    assert len(dispatcher.plan(Ledger(), pending=0, barrier=False)) == MAX_ISSUED
    assert dispatcher.plan(_out(1), pending=0, barrier=True) == []
    waiting = _out(1)
    waiting.buffer(waiting.open[1])
    assert dispatcher.plan(waiting, pending=0, barrier=True) == []


def test_tasks_go_where_the_fewest_wait_and_where_somebody_lives() -> None:
    """Both queues get their share; one that nobody serves gets none, and where nobody lives at all, each may."""
    dispatcher = _dispatcher("cpu", "gpu", concurrency=8)
    assert Counter(dispatcher.plan(Ledger(), pending=0, barrier=False)) == {"cpu": 4, "gpu": 4}
    waiting = _out(3, queue="cpu")
    dispatcher.survey(waiting, Sightings(depths={"cpu": 3}, now_ms=NOW_MS), nobody, judge_workers=True)
    assert Counter(dispatcher.plan(waiting, pending=0, barrier=False)) == {"gpu": 4, "cpu": 1}
    dispatcher.note_fleet(Fleet(frozenset({"gpu"}), 1))
    assert set(dispatcher.plan(Ledger(), pending=0, barrier=False)) == {"gpu"}
    dispatcher.note_fleet(Fleet())
    assert set(dispatcher.plan(Ledger(), pending=0, barrier=False)) == {"cpu", "gpu"}


# -- giving up -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (_seen(claimed_ago=5.0), None),
        (_seen(claimed_ago=TIMEOUT + 1), None),  # it is given the time to end by itself
        (_seen(claimed_ago=TIMEOUT + DEVICE_GRACE_SECONDS + 1), "deadline"),
        (_seen(claimed_ago=TIMEOUT + 1, silent=LEASE + 1), "deadline"),
        (_seen(claimed_ago=LEASE + 2, silent=LEASE + 1), "lost"),
        (_seen(claimed_ago=2.0, silent=LEASE + 1), None),  # it claimed a moment ago: it lives
        (_seen(claimed_ago=2 * BEAT_SECONDS + 2, holds=False), "lost"),
        (_seen(claimed_ago=BEAT_SECONDS, holds=False), None),  # the claim and the next beat race
    ],
)
def test_an_attempt_is_given_up_when_its_worker_cannot_finish_it(seen: Sightings, reason: str | None) -> None:
    """Silent, past the deadline, or busy with something else; and not a moment too early."""
    expected = [] if reason is None else [(1, "default", reason)]
    assert _reasons(_dispatcher(), _out(1, seconds_ago=90), seen) == expected


def test_nobody_is_judged_when_everybody_s_beat_is_old() -> None:
    """Shortly after the broker was away only a deadline counts."""
    ledger = _out(1, seconds_ago=90)
    silent, late = _seen(claimed_ago=30, silent=25), _seen(claimed_ago=TIMEOUT + 1, silent=25)
    assert _reasons(_dispatcher(), ledger, silent, judge_workers=False) == []
    assert _reasons(_dispatcher(), ledger, late, judge_workers=False) == [(1, "default", "deadline")]


def test_an_answer_that_never_comes_out_of_the_log_is_missed_at_the_second_look() -> None:
    """Its worker has delivered; once the log was read to its end and ended nothing, the task is done again."""
    dispatcher, ledger = _dispatcher(), _out(1)
    seen = _seen(claimed_ago=2 * BEAT_SECONDS + 2, holds=False)
    assert _reasons(dispatcher, ledger, seen, ANSWERED, caught_up=True) == [], "it may have come since the log was read"
    assert _reasons(dispatcher, ledger, seen, ANSWERED, caught_up=False) == []
    assert _reasons(dispatcher, ledger, seen, ANSWERED, caught_up=True) == [(1, "default", "no_answer")]


def test_an_answer_on_its_way_is_no_loss() -> None:
    """Its worker's beat no longer holds the task, and its entry still waits in the inbox."""
    dispatcher, ledger = _dispatcher(), _out(1)
    gone = _seen(claimed_ago=2 * BEAT_SECONDS + 2, holds=False)
    for _ in range(3):  # as long as the inbox is not empty
        assert _reasons(dispatcher, ledger, gone, ANSWERED, caught_up=False) == []
    silent = _seen(claimed_ago=LEASE + 2, silent=LEASE + 1)
    assert _reasons(_dispatcher(), ledger, silent, ANSWERED, caught_up=True) == []
    assert _reasons(dispatcher, ledger, gone) == [(1, "default", "lost")]


def test_bytes_that_move_keep_a_task_from_its_deadline_and_from_its_loss() -> None:
    """As long as they move; and what moved long ago does not."""
    late, unheld = _seen(claimed_ago=2 * TIMEOUT), _seen(claimed_ago=2 * BEAT_SECONDS + 2, holds=False)
    just_now, long_ago = NOW_MS - 1000, NOW_MS - round(1000 * (TIMEOUT + DEVICE_GRACE_SECONDS + 1))
    for seen, reason in ((late, "deadline"), (unheld, "lost")):
        assert _reasons(_dispatcher(), _out(1, seconds_ago=200), seen, just_now) == []
        assert _reasons(_dispatcher(), _out(1, seconds_ago=200), seen, long_ago) in (
            [(1, "default", "deadline")], [(1, "default", reason)],
        )  # fmt: skip


def test_a_claim_of_nobody_is_given_up() -> None:
    """Somebody has written nonsense into its row, over which no device can write."""
    seen = Sightings({1: Owner("", 0)}, {}, {"default": 0}, NOW_MS, NOW_MS)
    assert _reasons(_dispatcher(), _out(1, seconds_ago=90), seen) == [(1, "default", "deadline")]


def test_a_task_that_nobody_has_claimed_waits_for_its_doorbell() -> None:
    """Which is rung for again when it is missing."""
    dispatcher, ledger = _dispatcher(), _out(1, seconds_ago=90)
    seen = Sightings({}, {}, {"default": 0}, NOW_MS, NOW_MS)
    ledger.reissue(ledger.open[1], queue="default", now_ms=NOW_MS - 5000, spent=True)
    survey = dispatcher.survey(ledger, seen, nobody, judge_workers=True)
    assert (survey.abandoned, survey.claimed, [task.number for task in survey.silent]) == ([], 0, [1])
    again = dispatcher.survey(ledger, replace(seen, depths={"default": 1}), nobody, judge_workers=True)
    assert again.silent == []


def test_a_class_that_nobody_serves_gives_its_tasks_away() -> None:
    """Unless the broker was away just now, when everybody looks dead, or the task is fresh."""
    dispatcher = _dispatcher("default", "gpu")
    dispatcher.note_fleet(Fleet(frozenset({"default"}), 1))
    old, fresh = _out(1, seconds_ago=30, queue="gpu"), _out(1, seconds_ago=1, queue="gpu")
    seen = Sightings(depths={"gpu": 1}, now_ms=NOW_MS, server_ms=NOW_MS)
    assert _reasons(dispatcher, old, seen, judge_workers=False) == []
    assert _reasons(dispatcher, fresh, seen) == []
    assert _reasons(dispatcher, old, seen) == [(1, "default", "no_worker")]
    dispatcher.note_fleet(Fleet())
    assert _reasons(dispatcher, old, seen) == [], "nobody could take it"
