"""Code that hangs, crashes or raises in a trial: judged from outside, in words."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
import types
from collections.abc import Iterator

import pytest

from fl_core.errors import SpecError
from fl_core.program import outside
from fl_core.program.outside import try_outside
from fl_core.trial.findings import Doing, Finding, Step

FIRST = Finding("first", "ok", "all is well")


@pytest.fixture(autouse=True)
def _no_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the test program would have it start new interpreters."""
    monkeypatch.setattr(outside.threading, "active_count", lambda: 1)


def _sound() -> Iterator[Step]:
    yield Doing("data", "loading data")
    yield FIRST


def _crashing() -> Iterator[Step]:
    yield from _sound()
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGSEGV)


def _exiting() -> Iterator[Step]:
    yield from _sound()
    os._exit(3)


def _raising() -> Iterator[Step]:
    yield from _sound()
    raise ValueError("no such table")


def _leaving() -> Iterator[Step]:
    yield from _sound()
    raise SystemExit(4)


def _refusing() -> Iterator[Step]:
    yield from _sound()
    raise SpecError("that is wrong; mend it.")


def _hanging() -> Iterator[Step]:
    yield from _sound()
    while True:
        time.sleep(1)


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        (_crashing, "loading data ended its process, which was killed by SIGSEGV, a crash below Python; mend it."),
        (_exiting, "loading data ended its process, which ended with code 3; mend it."),
        (_raising, "loading data raised ValueError: no such table; mend it."),
        (_leaving, "loading data raised SystemExit: 4; mend it."),
        (_refusing, "that is wrong; mend it."),
    ],
)
def test_a_fault_names_what_was_being_done(steps: outside.Callable[[], Iterator[Step]], sentence: str) -> None:
    """What was found before is kept."""
    first, fault = try_outside(steps, 60, "give it longer")
    assert first == FIRST
    assert (fault.name, fault.verdict, fault.sentence) == ("data", "fail", sentence)


def test_all_is_well() -> None:
    """Nothing is added to what was found."""
    assert try_outside(_sound, 60, "give it longer") == [FIRST]


def test_what_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told while it is waited for, and its process does not outlive the trial."""
    monkeypatch.setattr(outside, "FIRST_WORD_SECONDS", 0.05)
    told: list[str] = []
    monkeypatch.setattr(outside, "log", types.SimpleNamespace(info=lambda word, **more: told.append(word)))
    started = time.monotonic()
    first, fault = try_outside(_hanging, 0.4, "give it longer")
    assert time.monotonic() - started < 5
    assert first == FIRST
    assert fault.sentence == "loading data did not end within 0.4 s; mend it, or give it longer."
    assert "still loading data" in told
