"""The guardian: how children ended is told, what overruns is ended, and what cannot work ends the worker."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, cast

import pytest

from fl_core.broker.tasks import TaskBroker
from fl_core.wire.messages import TaskReport
from workers import guardian
from workers.breaker import Breakers
from workers.guardian import Guardian
from workers.pulse import Pulse, Vitals
from workers.settings import WorkerSettings


class Book:
    """Takes reports, and notes what the guardian asks for."""

    def __init__(self) -> None:
        self.reports: list[TaskReport] = []
        self.ended: list[str] = []
        self.killed = 0

    def report(self, report: TaskReport) -> bool:
        self.reports.append(report)
        return True

    def kill(self) -> None:
        self.killed += 1


@pytest.fixture
def book() -> Book:
    """An empty one."""
    return Book()


@pytest.fixture
def pulse() -> Pulse:
    """A fresh page."""
    return Pulse()


@pytest.fixture
def guard(book: Book, pulse: Pulse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guardian:
    """One that waits for nothing."""
    monkeypatch.setattr("fl_core.program.restarts.FIRST_PAUSE_SECONDS", 0.0)
    settings = WorkerSettings(broker="", data="a:b", name="pi", state_dir=tmp_path)
    return Guardian(settings, pulse, cast(TaskBroker, book), Breakers(), kill=book.kill, end=book.ended.append)


HOLDING = "digits-1/1-abc#2"


@pytest.mark.parametrize(
    ("state", "outcome", "said"),
    [
        ("training", "failed", "process ended with code 3"),
        ("loading", "handed_back", "while it loaded data = 'a:b'"),
    ],
)
def test_a_death_at_work_is_reported_in_words(
    guard: Guardian, book: Book, pulse: Pulse, state: str, outcome: str, said: str
) -> None:
    """Loading is this device's own affair and spends no attempt; the counts survive, the task in hand does not."""
    pulse.write(Vitals(pid=7, state=state, holding=HOLDING, num_done=4, bytes_up=9))
    guard.on_death(7, 3)
    guard.look()
    [report] = book.reports
    assert (report.campaign, report.task_id, report.attempt, report.outcome) == ("digits-1", "1-abc", 2, outcome)
    assert said in report.detail
    after = pulse.read()
    assert (after.pid, after.holding, after.num_done, after.bytes_up) == (0, "", 4, 9)
    assert after.num_failed == (state == "training")


@pytest.mark.parametrize("state", ["loading", "idle"])
def test_children_that_die_before_any_work_end_the_worker(
    guard: Guardian, book: Book, pulse: Pulse, state: str
) -> None:
    """Three in a row; a task that was done in between begins a new row."""
    holding = HOLDING if state == "loading" else ""
    for _ in range(2):
        pulse.write(Vitals(pid=7, state=state, holding=holding))
        guard.on_death(7, -11)
    pulse.write(Vitals(pid=7, state=state, holding=holding, num_done=1))
    guard.on_death(7, -11)
    assert book.ended == []
    for _ in range(2):
        guard.on_death(7, -11)
    [reason] = book.ended
    assert "killed by SIGSEGV, a crash below Python" in reason
    assert "3 times in a row" in reason


def test_children_that_die_in_training_do_not_end_the_worker(guard: Guardian, book: Book, pulse: Pulse) -> None:
    """One campaign's code is no reason to leave the others."""
    for _ in range(10):
        pulse.write(Vitals(pid=7, state="training", holding=HOLDING, num_failed=pulse.read().num_failed))
        guard.on_death(7, -9)
        guard.look()
    assert book.ended == []
    assert len(book.reports) == pulse.read().num_failed == 10


def _child(deaf: bool) -> int:
    pid = os.fork()
    if pid == 0:
        signal.signal(guardian.OVERDUE_SIGNAL, signal.SIG_IGN if deaf else lambda *_: os._exit(42))
        while True:
            time.sleep(0.01)
    time.sleep(0.2)
    return pid


@pytest.mark.parametrize("deaf", [False, True])
def test_what_overruns_is_asked_and_then_killed(
    guard: Guardian, book: Book, pulse: Pulse, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    """Before its limit it is left alone; after it, a child that hears is only asked."""
    monkeypatch.setattr(guardian, "ASKED_SECONDS", 0.1)
    pid = _child(deaf)
    vitals = Vitals(pid=pid, state="training", holding=HOLDING)
    pulse.write(vitals)
    pulse.allow(time.monotonic(), 60.0)
    guard.look()
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    pulse.allow(time.monotonic() - 3.0, 2.0)
    deadline = time.monotonic() + 20
    status: Any = None
    while status is None and time.monotonic() < deadline:
        guard.look()
        done, code = os.waitpid(pid, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if done else None
        time.sleep(0.02)
    assert status == (-signal.SIGKILL if deaf else 42)
    if deaf:
        guard.on_death(pid, status)
        guard.look()
        assert "did not finish within task_timeout_seconds = 2" in book.reports[-1].detail


def test_loading_that_blocks_gives_the_task_back_once_and_ends_in_time(
    guard: Guardian, book: Book, pulse: Pulse
) -> None:
    """After a minute others get it, while loading goes on; at this device's own limit the worker ends."""
    pulse.write(Vitals(pid=7, state="loading", holding=HOLDING, since=time.monotonic() - 61.0, limit=70.0))
    guard.look()
    guard.look()
    assert [(report.outcome, "not loaded within" in report.detail) for report in book.reports] == [
        ("handed_back", True)
    ]
    assert (book.ended, book.killed) == ([], 0)
    pulse.allow(time.monotonic() - 71.0, 70.0)
    guard.look()
    assert "--load-seconds 70" in book.ended[0]
    assert book.killed == 1


def test_leaving_hands_back_what_is_in_hand_and_ends_the_child_in_any_case(
    guard: Guardian, book: Book, pulse: Pulse
) -> None:
    """Also one that holds nothing: it may block where nobody sees it."""
    guard.leave()
    assert (book.reports, book.killed) == ([], 1)
    pulse.write(Vitals(pid=7, state="training", holding=HOLDING))
    guard.leave()
    assert (book.reports[0].outcome, book.killed) == ("handed_back", 2)
