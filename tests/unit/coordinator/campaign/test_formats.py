"""What a campaign writes stays as it is, byte for byte: history, status and events, as they were recorded once.

``formats/`` holds what the release wrote that these tests were written with. A change there is a change of a format
that people's folders, scripts and running brokers hold: it needs a reader for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from coordinator.storage.strict_json import strict_json
from coordinator.telemetry.status import StatusWriter
from coordinator.telemetry.timing import Timing
from fl_core.clock import MACHINE
from fl_core.spec import CampaignSpec

FORMATS = Path(__file__).parent / "formats"
SECTIONS: dict[str, Any] = {
    "training": {"loss": "cross_entropy"},
    "dispatch": {"max_attempts": 2},
    "evaluation": {"data": "a:b", "metrics": ["auc", "accuracy"]},
    "stop": {"updates": 50, "metric": [{"name": "auc", "at_least": 0.99}]},
    "aggregation": {"buffer_size": 2, "staleness": "polynomial"},
}


class _Clock:
    machine = MACHINE

    def now_ms(self) -> int:
        return 1_030_000

    server_ms = now_ms


def _evaluated(campaign: Any, version: int, loss: float, **metrics: float | None) -> Any:
    return campaign.event("evaluated", {"version": version, "loss": loss, "metrics": metrics, "num_examples": 10})


def played(bench: Callable[..., Any]) -> Any:
    """A campaign in which everything happens that a history tells of."""
    campaign = bench(**SECTIONS).open(12)
    campaign.apply(_evaluated(campaign, 0, 2.5, auc=0.5, accuracy=0.125))
    campaign.apply(campaign.update(1, worker="a"), campaign.update(2, worker="b"))
    campaign.apply(campaign.update(3, worker="a", base_version=0), campaign.update(4, worker="b"))
    campaign.apply(campaign.update(5, values=np.full(64, np.nan), worker="c"))
    campaign.apply(campaign.update(1, worker="late"), campaign.entry("?", b"", b""))
    campaign.apply(campaign.reissued(6), campaign.reissued(7, reason="deadline"))
    campaign.apply(campaign.report(8, detail="Traceback ...\n  \nValueError: it broke"))
    campaign.apply(campaign.report(8, 2), campaign.report(9, outcome="handed_back", detail="SIGTERM"))
    campaign.apply(campaign.event("evaluating"), _evaluated(campaign, 2, 1.25, auc=0.75, accuracy=None))
    campaign.apply(campaign.event("evaluated", {"version": 2, "loss": 1.5, "accuracy": 0.5, "num_examples": 10}))
    campaign.apply(campaign.event("paused", {"control": "5-0"}), campaign.event("resumed", {"control": "6-0"}))
    campaign.apply(campaign.event("clock", {"shift_ms": 250}))
    campaign.apply(campaign.update(10, worker="b"), campaign.event("merge_due", {"version": 2}))
    campaign.apply(_evaluated(campaign, 3, math.nan, auc=math.nan, accuracy=None))
    campaign.apply(campaign.event("interrupted", {"control": ""}), campaign.event("resumed", {"control": "7-0"}))
    campaign.apply(campaign.issued(2, "gpu"), campaign.update(13, worker="a"))
    campaign.apply(campaign.event("stopped", {"reason": "asked", "control": "8-0"}))
    return campaign


def status_of(campaign: Any) -> bytes:
    """What its coordinator would write to the broker."""
    timing = Timing()
    reported = {"queue": 1.0, "fetch": 0.25, "train": 3.0, "encode": 0.125}
    timing.add_update(reported, life_seconds=4.75, log_seconds=0.5, merge_seconds=0.03, num_bytes=4096)
    timing.add_publish(0.004)
    timing.add_evaluation(0.5)
    campaign.state.contributions.device_scores = {
        "a": {"personal_accuracy": 0.5, "global_loss": 1.25},
        "b": {"global_loss": 0.75},
    }
    spec = CampaignSpec.model_validate({**campaign.spec.model_dump(), "dispatch": {"queues": ["default", "gpu"]}})
    clock: Any = _Clock()
    status = StatusWriter("digits-1", spec, campaign.state, campaign.layout, timing, clock, lambda _: None)
    status.live_workers, status.claimed = 3, 2
    return status.write(1.5)


def test_history_is_written_as_it_was(bench: Callable[..., Any]) -> None:
    """Each kind of line, with every field in its place."""
    written = "".join(strict_json(line.to_map()) + "\n" for line in played(bench).lines)
    assert written == (FORMATS / "history.jsonl").read_text()


def test_status_is_written_as_it_was(bench: Callable[..., Any]) -> None:
    """The map that watchers of another release read."""
    assert status_of(played(bench)) == (FORMATS / "status.msgpack").read_bytes()


def test_events_are_written_as_they_were(bench: Callable[..., Any]) -> None:
    """The coordinator's decisions in the log: a checkpoint of today is resumed over events of before."""
    written = [entry.header for entry in played(bench).entries if entry.kind == "e"]
    assert written == msgpack.unpackb((FORMATS / "events.msgpack").read_bytes())
