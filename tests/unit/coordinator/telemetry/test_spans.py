"""The coordinator's spans: each task's way from issue to its one end, however it ends, and none for foreign names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from coordinator.campaign.ledger import task_number
from coordinator.telemetry.spans import Traces

SECRET = b"s" * 32


class _Tracer:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.spans: list[tuple[int | None, str, dict[str, Any]]] = []
        self.closed = False

    def record(self, campaign: str, task: str, name: str, start_ns: int, end_ns: int, **known: Any) -> None:
        assert campaign == "digits-1"
        assert start_ns <= end_ns
        self.spans.append((task_number(SECRET, task), name, known))

    def close(self) -> None:
        self.closed = True


def test_every_task_has_one_root_that_says_how_it_ended(bench: Callable[..., Any]) -> None:
    """Merged, rejected and cancelled; admission and merge have spans of their own, a duplicate only a refusal."""
    campaign = bench(aggregation={"buffer_size": 2, "staleness": "constant"}).open(4)
    tracer: Any = _Tracer()
    traces = Traces(tracer, "digits-1", SECRET)
    traces.published(list(campaign.state.ledger.open.values()), 1_001_000)
    refused = campaign.update(3, worker="c", payload=b"too short")
    duplicate = campaign.update(1, worker="late")
    foreign = campaign.update(2, task_id="99-0123456789ab")
    for entry in (campaign.update(1, worker="a"), campaign.update(2, worker="b"), refused, duplicate, foreign):
        traces.applied_first(campaign.apply(entry), 0.01, campaign.milliseconds)
    stopped = campaign.apply(campaign.event("stopped", {"reason": "asked", "control": ""}))
    traces.applied_first(stopped, 0.01, campaign.milliseconds)
    traces.close()
    roots = {number: known["outcome"] for number, name, known in tracer.spans if name == "task"}
    assert roots == {1: "merged", 2: "merged", 3: "rejected", 4: "expired_or_cancelled"}
    assert Counter(name for _, name, _ in tracer.spans) == Counter(publish=4, admit=4, merge=2, task=4)
    assert [known["error"] for number, name, known in tracer.spans if name == "admit" and number == 1] == [
        "",
        "duplicate",
    ]
    assert {known["version"] for _, name, known in tracer.spans if name == "merge"} == {1}
    assert not any(number is None for number, _, _ in tracer.spans)
    assert tracer.closed
