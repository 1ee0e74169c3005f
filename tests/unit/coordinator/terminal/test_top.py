"""`fedtide top`: one screen of one glance, for people and as JSON."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest
from rich.console import Console

from coordinator.monitor.observer import Observer, Snapshot
from coordinator.monitor.track import Track
from coordinator.telemetry.staleness_histogram import staleness_histogram
from coordinator.terminal.top import choose, gather, picture
from fl_core.broker.connection import connect
from fl_core.broker.overview.queues import QueueState
from fl_core.wire.feed_lines import CoordinatorLine, WorkerLine
from fl_core.wire.history import EvaluationLine
from fl_core.wire.status import MetricScores, Status

STATUS = Status(
    state="running", issued=5, merged=2, rejected={"duplicate": 1}, out=1, buffered=1, buffer_size=2, versions=1,
    metrics={"auc": MetricScores(final=0.5, best=0.75)}, writer="host:1:ab",
    staleness_histogram=staleness_histogram([(0, 3), (6, 1)]),
)  # fmt: skip


def _shown(part: Any) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(part)
    return console.export_text()


def _observer(monkeypatch: pytest.MonkeyPatch, campaigns: dict[str, Status]) -> Observer:
    observer, track = Observer(connect("redis://127.0.0.1:1/0")), Track()
    track.add([
        CoordinatorLine(seconds=0.0, event="launched", holder="host:1:ab", fence=1),
        WorkerLine(seconds=1.0, worker="pi", event="joined"),
        *(EvaluationLine(seconds=n, version=n, merged=n, loss=1.0, metrics={"auc": 0.25 * n}) for n in (1, 2, 3)),
    ])  # fmt: skip
    observer.snapshot = Snapshot(seen_at=time.time(), campaigns=campaigns, queues=[QueueState("gpu", 3, 40.0, 5, 2)])
    monkeypatch.setattr(observer, "follow", lambda name: None)
    monkeypatch.setattr(observer, "track", lambda name: track)
    return observer


def test_one_screen_says_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score with its curve, buffer, a ledger that does not add up, staleness, queues, events."""
    glance = gather(_observer(monkeypatch, {"digits-1": STATUS}), "digits-1")
    told = _shown(picture(glance, 160))
    for words in ("digits-1  running", "led by host:1:ab", "0.5000, best 0.7500", "▁▅█", "■□  1 of 2", "duplicate 1",
                  "issued 5 = merged 2", "6–7", "gpu", "worker=pi event=joined", "launched"):  # fmt: skip
        assert words in told, words
    row = json.loads(json.dumps(glance.to_map()))
    assert (row["campaign"]["merged"], row["scores"], row["events"][1]["worker"]) == (2, [0.25, 0.5, 0.75], "pi")
    assert row["queues"][0]["depth"] == 3


def test_what_is_looked_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest that is not over, else the newest; none, and one without a word, have a line."""
    over, silent = Status(state="finished"), Status()
    assert choose(Snapshot(campaigns={"c": over, "b": STATUS, "a": STATUS})) == "b"
    assert choose(Snapshot(campaigns={"c": over})) == "c"
    assert choose(Snapshot()) is None
    observer = _observer(monkeypatch, {"new": silent})
    assert "new: no word from its coordinator yet" in _shown(picture(gather(observer, "new"), 160))
    nothing = gather(observer, None)
    assert "no campaign yet" in _shown(picture(nothing, 160))
    assert nothing.to_map()["campaign"] is None
