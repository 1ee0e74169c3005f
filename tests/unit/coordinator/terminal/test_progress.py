"""What `fedtide run` shows: a log line now and then when piped, a picture on a terminal, a table at the end."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from coordinator.terminal import progress
from coordinator.terminal.progress import Display, summary_table
from fl_core.spec import parse_spec
from fl_core.wire.status import MetricScores, MetTarget, Staleness, Status

SPEC = parse_spec({"model": {"factory": "a:b"}, "campaign": {"name": "digits"}})
STATUS = Status(
    campaign="digits-1", state="running", merged=6, versions=3, live_workers=2, claimed=1, buffered=1, buffer_size=2,
    recent_updates_per_second=1.5, staleness=Staleness(mean=0.5, p50=0, p95=2, max=4), rejected={"too_stale": 1},
    surplus={"duplicate": 2}, issued=8, out=1, metrics={"auc": MetricScores(final=0.5, best=0.75)},
    stop={"updates": 12}, wall_seconds=6.0, merged_by_worker={"a": 4, "b": 2},
)  # fmt: skip


def test_the_picture_has_the_curve_of_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """One point per version; the loss alone makes way for the first metric."""
    display = Display(SPEC, Path("run"))
    for version, score in enumerate((0.25, 0.25, 0.5, 1.0)):
        scored = {"auc": MetricScores(final=score, best=score)}
        display.show_progress(replace(STATUS, versions=max(1, version), metrics=scored))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(display._render(STATUS))
    told = console.export_text()
    for words in (
        "running  6 s",
        "2 alive, 1 training",
        "6  version 3  1.5 per second  buffer 1/2",
        "▁▃█",
        "50% of 12 updates",
    ):
        assert words in told, words


def test_a_queue_without_workers_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a while, not at every look; and again after some had come."""
    now = iter(range(0, 1000, 2))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    display = Display(SPEC, Path("run"))
    for live_workers in (0, 0, 0, 0, 2, 0, 0, 0):
        display.show_progress(replace(STATUS, live_workers=live_workers))
    told = capsys.readouterr()
    assert (told.out + told.err).count("no worker serves these queues yet") == 2


def test_the_end_at_a_glance(capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, scores, what was delivered and left out, and how to go on with an interrupted campaign."""
    met = MetTarget(metric="auc", value=0.75, bound=0.7)
    ended = replace(STATUS, state="interrupted", stop_reason="interrupted", target_met=met, delivered_version=2)
    Display(SPEC, Path("run")).show_summary({**ended.to_map(), "left_out": ["curves.png: no space left"]})
    told = " ".join(capsys.readouterr().out.split())
    for words in ("digits-1 interrupted (interrupted)", "auc, final / best 0.5000 / 0.7500",
                  "version delivered 2, auc 0.7500",
                  "updates per worker a 4, b 2", "issued 8 = merged 6", "not counted (no open task): duplicate 2",
                  "rejected: too_stale 1", "left out: curves.png: no space left", "--out run --resume"):  # fmt: skip
        assert words in told, words
    assert summary_table(ended).row_count > 8


@pytest.mark.parametrize(
    ("url", "is_open"),
    [("redis://127.0.0.1:6399/0", True), ("redis://me:pw@127.0.0.1:6399/0", False), ("rediss://broker:6380/0", False)],
)
def test_an_open_broker_is_said_to_be_open(url: str, is_open: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, where everything on this machine can reach the broker without a word."""
    Display(SPEC, Path("run")).show_broker(url)
    told = capsys.readouterr()
    assert ("open to every program on this machine" in told.out + told.err) == is_open
