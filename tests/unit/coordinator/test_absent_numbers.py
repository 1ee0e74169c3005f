"""A number that cannot be had is absent for everybody: null in JSON, a dash for people, a gap in a curve, no sample."""

from __future__ import annotations

import io
import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from rich.console import Console

from coordinator.campaign.summary import summarise
from coordinator.monitor import views
from coordinator.monitor.observer import Observer, Snapshot
from coordinator.monitor.track import Track
from coordinator.report.curves import draw_comparison, draw_curves
from coordinator.report.exports.points import points
from coordinator.report.pages.comparison import Compared, compare_rows, write_comparison
from coordinator.report.pages.page import write_report
from coordinator.report.series import lower_is_better
from coordinator.storage.history import History, read_history
from coordinator.storage.run_folder import RunFolder
from coordinator.storage.strict_json import strict_json
from coordinator.telemetry.feed import Feed
from coordinator.telemetry.status import StatusWriter
from coordinator.telemetry.timing import Timing
from coordinator.terminal.progress import Display
from coordinator.terminal.tables import print_campaigns, print_status
from coordinator.terminal.top import gather, picture
from fl_core.broker.connection import connect
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.overview.status import read_status
from fl_core.clock import MACHINE
from fl_core.spec import StopMetric
from fl_core.wire.feed_lines import feed_line
from fl_core.wire.status import Status, Summary

NAN, INF = math.nan, math.inf
NAMES = ("auc", "workers")  # the second is a word that lines of the log have too
SECTIONS: dict[str, Any] = {
    "training": {"loss": "cross_entropy"},
    "evaluation": {
        "data": "a:b",
        "metrics": ["auc", {"name": "workers", "factory": "m:E", "higher_is_better": False}],
    },
    "stop": {"loss": 0.001, "metric": [{"name": "auc", "at_least": 0.9}, {"name": "workers", "at_most": 2.0}]},
    "aggregation": {"buffer_size": 1},
    "guard": {"enabled": False},
}
# (loss, AUC, mistakes) of versions 0, 1, ...; None for a version that was not evaluated.
COURSES: dict[str, list[tuple[float, float | None, float | None] | None]] = {
    "never evaluated": [None, None],
    "nothing was ever had": [(NAN, None, None), (INF, NAN, INF), (NAN, None, NAN)],
    "the loss alone": [(2.0, None, None), (NAN, NAN, None), (1.0, None, None)],
    "the loss never": [(NAN, 0.5, 9.0), (INF, 0.75, None), (NAN, None, 4.0)],
    "now and then": [(2.0, None, 9.0), None, (NAN, 0.5, None), None, (INF, None, NAN), (1.0, 0.75, 4.0)],
    "had at first": [(2.0, 0.5, 9.0), (1.0, 0.75, 4.0), (NAN, NAN, INF)],
}


class _Clock:
    machine = MACHINE

    def now_ms(self) -> int:
        return 5_000

    server_ms = now_ms


def _played(bench: Callable[..., Any], course: list[Any]) -> Any:
    campaign = bench(**SECTIONS).open(len(course) + 2)
    for version, scores in enumerate(course):
        if scores is not None:
            body = {"version": version, "loss": scores[0], "metrics": dict(zip(NAMES, scores[1:], strict=True))}
            campaign.apply(campaign.event("evaluated", {**body, "num_examples": 10}))
        metrics = {"loss": 1.0, "global_loss": 0.5} if version else {"loss": 1.0}
        campaign.apply(campaign.update(version + 1, metrics=metrics))
    return campaign


def _strictly(text: str) -> Any:
    """JSON, where NaN and Infinity are none."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def _clean(text: str) -> None:
    """What people read: none of the words by which programs say that a number is not there."""
    words = re.sub(r"<[^>]*>", " ", text.split("<h2>Spec")[0])
    assert not re.search(r"\b(nan|NaN|inf|Infinity|null|undefined)\b|\bNone\b(?!\.)", words), words


def _shown(*parts: Any) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    for part in parts:
        console.print(part)
    return console.export_text()


def _status(campaign: Any) -> tuple[Status, Status]:
    """What the broker holds, read back, and what ``fedtide run`` shows."""
    seen: list[Status] = []
    clock: Any = _Clock()
    status = StatusWriter("digits-1", campaign.spec, campaign.state, campaign.layout, Timing(), clock, seen.append)
    return read_status(status.write(1.0)), seen[0]


def _track(campaign: Any) -> Track:
    """The past that a monitor builds of the feed."""
    feed, track = Feed(CampaignKeys("digits-1")), Track()
    feed.add("1-0", campaign.lines)
    for command in feed.commands(1, "1-0", 60.0, flush=True):
        fields = dict(zip(command[6::2], command[7::2], strict=True))
        track.add(map(feed_line, msgpack.unpackb(fields["l"], strict_map_key=False)))
    return track


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES)
def test_files_pages_and_pictures(bench: Callable[..., Any], course: list[Any], tmp_path: Path) -> None:
    """Everything that a run leaves behind, and what is made of it later."""
    campaign = _played(bench, course)
    campaign.apply(campaign.event("stopped", {"reason": "asked", "control": ""}))
    run = RunFolder(tmp_path)
    history = History(run.history)
    history.append(campaign.lines)
    history.close()
    run.write_summary(summarise("digits-1", campaign.spec, campaign.state, campaign.layout))

    summary = _strictly(run.summary.read_text())
    lines = [_strictly(line) for line in run.history.read_text().splitlines()]
    assert sum(line["kind"] == "evaluation" for line in lines) == sum(scores is not None for scores in course)
    had = {
        name: [s[place] for s in course if s is not None and s[place] is not None and math.isfinite(s[place])]
        for place, name in enumerate(("loss", *NAMES))
    }
    for name, row in summary["metrics"].items():
        assert (row["best"] is None) == (not had[name])

    exported = [p for p in points(read_history(run.history)) if any(n.startswith("evaluation/") for n in p.values)]
    for name, values in had.items():
        assert [p.values[f"evaluation/{name}"] for p in exported if f"evaluation/{name}" in p.values] == values

    _clean(write_report(tmp_path).read_text())
    write_comparison([tmp_path, tmp_path], tmp_path / "both.html", Compared(target=0.7))
    _clean((tmp_path / "both.html").read_text())
    _strictly(strict_json(compare_rows([tmp_path], Compared(target=0.7))))
    assert draw_curves(run.history, run.curves, "a campaign", lower_is_better(Summary.from_map(summary)))
    target, later = StopMetric(name="auc", at_least=0.7), [scores[1] for scores in course[1:] if scores is not None]
    drawn = draw_comparison({"a": run.history}, tmp_path / "c.png", "one", target)
    assert drawn == any(value is not None and math.isfinite(value) for value in later)  # version 0 is at second 0


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES)
def test_status_monitor_and_terminal(
    bench: Callable[..., Any], course: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything that is shown while it runs."""
    campaign = _played(bench, course)
    status, progress = _status(campaign)
    track = _track(campaign)
    assert len(track.evaluations) == sum(scores is not None for scores in course)
    observer = Observer(connect("redis://127.0.0.1:1/0"))
    observer.snapshot = seen = Snapshot(seen_at=time.time(), campaigns={"digits-1": status, "silent": Status()})
    monkeypatch.setattr(observer, "follow", lambda name: None)
    monkeypatch.setattr(observer, "track", lambda name: track)

    now = views.campaign_now(seen, "digits-1")
    told = json.dumps([now, views.overview(observer, seen), track.series()], allow_nan=False)
    assert '"goal": {"share"' in told
    row = gather(observer, "digits-1")
    json.dumps(row.to_map(), allow_nan=False)
    _clean(_shown(picture(row, 200)))

    display = Display(campaign.spec, Path("run"))
    display.show_progress(progress)  # piped: a line in the log
    _clean(_shown(display._render(progress)))
    display.show_summary(progress.to_map())
    print_status("digits-1", status)
    print_campaigns([("digits-1", status), ("silent", Status())])
    printed = capsys.readouterr()
    _clean(printed.out + printed.err)


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES)
def test_prometheus(bench: Callable[..., Any], course: list[Any]) -> None:
    """No sample is NaN, and a score that is absent has none."""
    pytest.importorskip("prometheus_client", reason="the extra `monitor` is not installed")
    from coordinator.monitor.metrics import exposition
    from coordinator.telemetry.metrics import families

    status, _ = _status(_played(bench, course))
    observer = Observer(connect("redis://127.0.0.1:1/0"))
    observer.snapshot = Snapshot(seen_at=5.0, campaigns={"digits-1": status})
    text = exposition(observer).decode()
    assert not re.search(r" [+-]?(nan|inf)$", text, re.I | re.M)
    newest = next((scores for scores in reversed(course) if scores is not None), (None, None, None))
    for name, value in zip(NAMES, newest[1:], strict=True):
        is_there = value is not None and math.isfinite(value)
        assert (f'fedtide_campaign_metric{{campaign="digits-1",metric="{name}"}}' in text) == is_there
    for family in families(status):
        assert all(math.isfinite(sample.value) for sample in family.samples)
