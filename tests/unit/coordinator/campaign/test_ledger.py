"""The ledger: every task ends once, and at any time the counts add up."""

from __future__ import annotations

from collections import Counter

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coordinator.campaign.ledger import Ledger, OpenTask, task_id, task_number
from fl_core.errors import InvariantError, Reason

SECRETS = st.binary(min_size=1, max_size=64)


def _issued(count: int) -> tuple[Ledger, list[OpenTask]]:
    ledger = Ledger()
    return ledger, ledger.issue(["default"] * count, 5)


def test_tasks_are_numbered_in_the_order_of_issue() -> None:
    """Numbers go on from where the last issue stopped, and each new task is at its first attempt."""
    ledger, first = _issued(2)
    second = ledger.issue(["gpu"], 9)
    assert [task.number for task in first + second] == [1, 2, 3]
    assert second == [OpenTask(number=3, attempt=1, failures=0, queue="gpu", issued_ms=9)]
    assert (ledger.issued, ledger.out) == (3, 3)


def test_every_ending_counts_once() -> None:
    """Merged, rejected, expired, cancelled and out are disjoint, and their sum is what was issued."""
    ledger, tasks = _issued(6)
    ledger.buffer(tasks[0])
    ledger.buffer(tasks[1])
    ledger.merge_buffered(1)
    ledger.reject(tasks[2], Reason.NOT_FINITE)
    ledger.expire(tasks[3])
    ledger.reissue(tasks[4], queue="gpu", now_ms=8, spent=True)
    assert (ledger.merged, ledger.num_rejected, ledger.expired, ledger.out, ledger.reissued) == (1, 1, 1, 3, 1)
    assert sorted(ledger.cancel_open()) == [5, 6]
    assert (ledger.cancelled, ledger.out) == (2, 1)
    ledger.verify()


def test_a_ledger_that_does_not_add_up_says_so() -> None:
    """The check is able to fail, and shows all counts."""
    ledger, _ = _issued(2)
    ledger.merged += 1
    with pytest.raises(
        InvariantError, match=r"issued 2 != merged 1 \+ rejected 0 \+ expired 0 \+ cancelled 0 \+ out 2"
    ):
        ledger.verify()


def test_more_merges_than_updates_are_a_bug() -> None:
    """What was never buffered cannot be merged."""
    ledger, tasks = _issued(2)
    ledger.buffer(tasks[0])
    with pytest.raises(InvariantError, match="2 updates merged, but only 1 were buffered"):
        ledger.merge_buffered(2)


def test_a_reissue_opens_the_next_attempt() -> None:
    """The attempt rises either way; only a spent one counts as a failure."""
    ledger, (task,) = _issued(1)
    ledger.reissue(task, queue="gpu", now_ms=7, spent=False)
    assert task == OpenTask(number=1, attempt=2, failures=0, queue="gpu", issued_ms=7)
    ledger.reissue(task, queue="gpu", now_ms=8, spent=True)
    assert (task.attempt, task.failures, ledger.reissued) == (3, 1, 2)


def test_a_late_update_is_told_what_became_of_its_task() -> None:
    """Never issued, answered, expired and cancelled are four different answers."""
    ledger, tasks = _issued(4)
    ledger.buffer(tasks[0])
    ledger.reject(tasks[1], Reason.MALFORMED)
    ledger.expire(tasks[2])
    ledger.cancel_open()
    reasons = [ledger.why_closed(number)[0] for number in (0, 1, 2, 3, 4, 5)]
    closed = [Reason.TASK_CLOSED] * 2
    assert reasons == [Reason.UNKNOWN_TASK, Reason.DUPLICATE, Reason.DUPLICATE, *closed, Reason.UNKNOWN_TASK]
    assert "expired" in ledger.why_closed(3)[1]
    assert "cancelled" in ledger.why_closed(4)[1]


@given(st.lists(st.sampled_from("iiirRebxc"), max_size=60))
@example(list("iiiiirRebbxc"))
def test_a_restored_ledger_is_the_same(actions: list[str]) -> None:
    """After any course of events, export, msgpack and restore give an equal ledger that still adds up."""
    ledger = Ledger()
    for number, action in enumerate(actions):
        task = next(iter(ledger.open.values()), None)
        match action:
            case "i":
                ledger.issue(["default", "gpu"], number)
            case "r" if task:
                ledger.reject(task, list(Reason)[number % 3])
            case "R" if task:
                ledger.reissue(task, queue="cpu", now_ms=number, spent=bool(number % 2))
            case "e" if task:
                ledger.expire(task)
            case "b" if task:
                ledger.buffer(task)
            case "x" if ledger.buffered:
                ledger.merge_buffered(1)
            case "c" if number % 5 == 0:
                ledger.cancel_open()
        ledger.verify()
    restored = Ledger()
    restored.restore(msgpack.unpackb(msgpack.packb(ledger.export())))
    assert restored == ledger
    assert isinstance(restored.rejected, Counter)
    restored.verify()


def test_an_exported_ledger_does_not_change_later() -> None:
    """A checkpoint that is being written shows the ledger of its own moment, not a later one."""
    ledger, tasks = _issued(3)
    ledger.surplus["duplicate"] += 1
    exported = ledger.export()
    before = msgpack.packb(exported)
    ledger.reissue(tasks[0], queue="gpu", now_ms=9, spent=True)
    ledger.expire(tasks[0])
    ledger.buffer(tasks[1])
    ledger.reject(tasks[2], Reason.MALFORMED)
    ledger.surplus["duplicate"] += 1
    assert msgpack.packb(exported) == before


@given(SECRETS, st.integers(1, 10**15))
def test_a_task_id_says_its_number(secret: bytes, number: int) -> None:
    """A genuine id gives its number back under its own secret and nothing under another."""
    identifier = task_id(secret, number)
    assert task_number(secret, identifier) == number
    assert task_number(secret + b"x" if len(secret) < 64 else b"x", identifier) is None


@given(SECRETS, st.integers(1, 10**6), st.text(max_size=20))
def test_nobody_guesses_a_task_id(secret: bytes, number: int, text: str) -> None:
    """Text that is not exactly the id is no id: no leading zeros, foreign digits, signs or other tails."""
    identifier = task_id(secret, number)
    tail = identifier.partition("-")[2]
    forged = [
        text,
        f"0{identifier}",
        f"+{identifier}",
        f" {identifier}",
        f"{identifier} ",
        identifier.upper() + "-",
        "²-" + tail,
    ]
    forged += [f"{number + 1}-{tail}", f"{number}-", f"{number}", f"{'9' * 5000}-{tail}", f"{number}-{tail[::-1]}x"]
    assert {task_number(secret, other) for other in forged if other != identifier} == {None}
