"""A monitor that has stopped looking says so, in each of its words, and looks again."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="the extra `monitor` is not installed")
pytest.importorskip("starlette", reason="the extra `monitor` is not installed")

from starlette.requests import Request

from coordinator.monitor import observer as observing
from coordinator.monitor.metrics import exposition
from coordinator.monitor.observer import Observer
from coordinator.monitor.settings import Access
from coordinator.monitor.tokens import TokenCheck
from coordinator.monitor.web import _Server
from fl_core.broker.connection import connect
from tests.integration.lab import until

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def observer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Observer]:
    """An observer that looks every few milliseconds; what it sees is the test's."""
    monkeypatch.setattr(observing, "POLL_SECONDS", 0.01)
    made = Observer(connect(NOWHERE))
    yield made
    made.stop()


def _told(observer: Observer) -> tuple[int, str, str]:
    """What a health check, a scrape and the page are told."""
    server, nobody = _Server(observer, NOWHERE, Access("127.0.0.1"), TokenCheck()), Request({"type": "http"})
    health, overview = asyncio.run(server.health(nobody)), asyncio.run(server.overview(nobody))
    up = next(line for line in exposition(observer).decode().splitlines() if line.startswith("fedtide_broker_up"))
    return health.status_code, up.partition(" ")[2], json.loads(bytes(overview.body))["error"]


def _sees(observer: Observer, seen: Callable[[], Any]) -> None:
    observer.poll = seen  # type: ignore[method-assign]


def test_a_look_that_fails_by_a_mistake_is_told_and_repeated(observer: Observer) -> None:
    """Not only an absent broker: whatever goes wrong is on the page with since when, and the next look heals it."""
    looks: list[int] = []

    def fails() -> None:
        looks.append(1)
        raise ValueError("\x1b[2Jno such row")

    _sees(observer, fails)
    observer.start()
    until(lambda: len(looks) > 2)
    status, up, error = _told(observer)
    assert (status, up) == (503, "0.0")
    assert "cannot read what the broker holds (ValueError: ?[2Jno such row); what is shown is of" in error
    _sees(observer, lambda: setattr(observer, "snapshot", observing.Snapshot(sequence=99)))
    until(lambda: _told(observer) == (200, "1.0", ""))


def test_a_thread_that_hangs_is_told(observer: Observer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It raises nothing and sees nothing: the age of its last look is what shows it."""
    hanging = threading.Event()
    _sees(observer, hanging.wait)
    observer.start()
    monkeypatch.setattr(observing, "STALE_SECONDS", 0.05)
    until(lambda: _told(observer)[:2] == (503, "0.0"))
    assert "has not looked at the broker for" in observer.trouble()
    hanging.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_ended_is_started_again(observer: Observer) -> None:
    """Whoever asks next starts it."""

    def ends() -> None:
        raise SystemExit

    _sees(observer, ends)
    observer.start()
    first = observer._thread
    assert first is not None
    first.join(10)
    _sees(observer, lambda: None)
    observer.trouble()
    assert observer._thread is not first
    assert observer._thread is not None
    assert observer._thread.is_alive()
