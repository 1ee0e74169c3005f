"""What an open page is sent: all at first, then only what is new, and everything again after a thinning."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `monitor` is not installed")

from coordinator.monitor import live
from coordinator.monitor.live import News
from coordinator.monitor.observer import Observer, Snapshot
from coordinator.monitor.track import Track
from fl_core.broker.connection import connect
from fl_core.wire.feed_lines import MergesLine, WorkerLine
from fl_core.wire.history import EvaluationLine
from fl_core.wire.status import Status


def _evaluation(number: int) -> EvaluationLine:
    return EvaluationLine(seconds=float(number), version=number, merged=number, loss=1.0, metrics={"auc": 0.5})


def _merges(number: int) -> MergesLine:
    return MergesLine(
        seconds=float(number), version=number, merged=number, updates=1, merges=1, staleness=((0, 1),), workers={}
    )


def test_news_are_what_was_not_sent_before() -> None:
    """Evaluations and events once; the last interval again, since it may have grown."""
    track, news = Track(), News()
    track.add([_evaluation(1), _merges(1), WorkerLine(seconds=1.0, worker="a", event="joined")])
    first = news.since_last(track)
    assert (first["whole"], len(first["evaluations"]), len(first["intervals"]), len(first["events"])) == (True, 1, 1, 1)
    assert first["evaluations"][0] == [1.0, 1, 1, 1.0, None, {"auc": 0.5}]
    track.add([_evaluation(2), _merges(2), WorkerLine(seconds=2.0, worker="a", event="lost")])
    second = news.since_last(track)
    assert (second["whole"], second["first_evaluation"], second["first_interval"]) == (False, 1, 0)
    assert [row[1] for row in second["evaluations"]] == [2]
    assert [(event["n"], event["event"]) for event in second["events"]] == [(2, "lost")]
    nothing = news.since_last(track)
    assert (nothing["evaluations"], nothing["events"], len(nothing["intervals"])) == ([], [], 1)
    track.generation += 1  # the track was thinned
    assert news.since_last(track)["whole"]


class _Request:
    """A page that is closed after so many looks."""

    def __init__(self, looks: int) -> None:
        self._looks = looks

    async def is_disconnected(self) -> bool:
        self._looks -= 1
        return self._looks < 0


def test_a_page_hears_of_each_look_once_and_that_the_line_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """``hello`` with the queues' past, then nothing until the observer has looked again but a sign of life."""
    monkeypatch.setattr(live, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(live, "KEEPALIVE_SECONDS", 0.002)
    observer, track = Observer(connect("redis://127.0.0.1:1/0")), Track()
    observer.snapshot = Snapshot(sequence=1, campaigns={"a": Status(state="running")})
    monkeypatch.setattr(observer, "follow", lambda name: None)
    monkeypatch.setattr(observer, "track", lambda name: track)

    async def told() -> list[bytes]:
        request: Any = _Request(looks=5)
        events = live.events(request, observer, lambda: {"sequence": 1}, "a", still_in=lambda: True)
        return [each async for each in events]

    messages = asyncio.run(told())
    assert messages[0].startswith(b"event: hello\n")
    first = json.loads(messages[0].split(b"data: ")[1])
    assert (first["campaign"]["state"], first["campaign"]["requests"]) == ("running", ["pause", "stop"])
    assert first["news"]["whole"]
    assert "queue_series" in first
    assert set(messages[1:]) == {b": still here\n\n"}
