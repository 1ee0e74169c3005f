"""The feed of a real campaign whose coordinator is killed and resumed: nothing twice, and the report at the end."""

from __future__ import annotations

import signal
import time
from typing import Any

from fl_core.broker.connection import connect
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.overview.feed import read_feed


def _lines(lab: Any) -> list[dict[str, Any]]:
    client = connect(lab.url)
    (campaign,) = (name.decode() for name in client.zrange("fedtide:campaigns", 0, -1))
    entries, _ = read_feed(client, CampaignKeys(campaign), "0-0", 10_000)
    return [line.to_map() for entry in entries for line in entry.lines]


def test_feed_goes_on_where_it_was_after_a_crash(lab: Any) -> None:
    """Versions only rise, no update is told twice, the events say who led, and what `top` shows is the ledger's."""
    spec = lab.spec(stop={"updates": 60}, checkpoint={"every_merges": 4})
    run = lab.run(spec)
    lab.worker("a", delay=0.05)
    deadline = time.monotonic() + 60
    while len(lab.history()) < 8 and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send(signal.SIGKILL)
    run.process.wait()
    assert lab.run(spec, "--resume", name="again").wait(90) == 0
    lines = _lines(lab)
    merges = [line for line in lines if line["kind"] == "merges"]
    assert [line["version"] for line in merges] == sorted({line["version"] for line in merges})
    assert merges[-1]["merged"] == 60
    told = sum(line["updates"] for line in merges)
    assert 40 <= told <= 60, "a crash may cost the charts a moment, never count one twice"
    assert [line["event"] for line in lines if line["kind"] == "coordinator"] == ["launched", "resumed"]
    assert next(line["event"] for line in lines if line["kind"] == "worker") == "joined"
    assert lines[-1]["kind"] in ("end", "merges", "evaluation")
    shown = lab.ask("top")
    assert shown["campaign"]["merged"] == 60
    assert shown["campaign"]["timing"]["sums"]["train"] > 0
    assert "adds up" in (lab.folder / "run" / "report.html").read_text()
