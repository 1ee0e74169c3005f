"""The daemon's watching thread: nothing that fails in it leaves a worker that takes tasks and does not beat."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fl_core.wire.messages import Beat
from workers import beats, chore
from workers import daemon as module
from workers.daemon import Daemon
from workers.pulse import Vitals
from workers.settings import WorkerSettings


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """One that looks often, and whose broker is not asked."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(chore, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(beats, "NEWS_SECONDS", 0.01)
    monkeypatch.setattr(beats, "BEAT_SECONDS", 0.01)
    made = Daemon(WorkerSettings(broker="redis://127.0.0.1:1/0", data="a:b", name="pi", state_dir=tmp_path))
    monkeypatch.setattr(made._consumer, "stop", lambda: None)
    return made


def _watch_until(daemon: Daemon, event: threading.Event) -> bool:
    daemon._thread.start()
    came = event.wait(20)
    daemon._ended.set()
    daemon._thread.join(20)
    return came


@pytest.mark.parametrize("raised", [OSError(28, "No space left on device"), MemoryError(), SystemExit(1)])
def test_a_beat_that_fails_once_is_followed_by_others(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    """Whatever it was: the thread lives on, and the worker does not end."""
    sent, again = [], threading.Event()

    def beat(one: Beat) -> None:
        sent.append(one)
        if len(sent) == 1:
            raise raised
        again.set()

    monkeypatch.setattr(daemon._roster, "beat", beat)
    assert _watch_until(daemon, again)
    assert daemon._reason == ""


def test_a_worker_that_cannot_beat_at_all_ends_with_the_reason(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not go on taking tasks that nobody would miss."""
    monkeypatch.setattr(module, "MAX_FAILING_SECONDS", 0.0)

    def beat(sent: Beat) -> None:
        raise RuntimeError("no beat")

    monkeypatch.setattr(daemon._roster, "beat", beat)
    assert _watch_until(daemon, daemon._leaving)
    assert "RuntimeError: no beat" in daemon._reason


def test_an_update_that_cannot_be_read_does_not_stop_the_beats(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What lies in the state directory is told and tried again, and never ends the worker."""
    (tmp_path / "outbox" / "odd.update").mkdir(parents=True)
    monkeypatch.setattr(module, "MAX_FAILING_SECONDS", 0.0)
    monkeypatch.setattr("workers.beats.due_seconds", lambda beat: 0.01)
    beats, enough = [], threading.Event()

    def beat(sent: Beat) -> None:
        beats.append(sent)
        if len(beats) == 5 and daemon._delivering.error:
            enough.set()
        elif len(beats) >= 5:
            beats.pop()

    monkeypatch.setattr(daemon._roster, "beat", beat)
    assert _watch_until(daemon, enough)
    assert "IsADirectoryError" in daemon._delivering.error
    assert daemon._reason == ""


def test_what_the_child_found_out_ends_the_worker(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child says that this device can do nothing: the parent stops with that sentence."""
    monkeypatch.setattr(daemon._roster, "beat", lambda sent: None)
    daemon._pulse.write(Vitals(pid=1, fatal="data = 'a:b' is empty"))
    assert _watch_until(daemon, daemon._leaving)
    assert daemon._reason == "data = 'a:b' is empty"
