"""Times in the log, and what corrects them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

HOUR_MS = 3_600_000


def test_times_in_the_log_are_corrected_by_an_event(bench: Callable[..., Any]) -> None:
    """The clock goes an hour forward: seconds go on, nothing lies in the future, and a replay comes to the same."""
    campaign = bench(aggregation={"buffer_size": 2}).open(3)
    campaign.milliseconds += HOUR_MS
    campaign.apply(campaign.update(1))  # before anybody has noticed
    campaign.apply(campaign.issued(1))
    campaign.apply(campaign.event("clock", {"shift_ms": -HOUR_MS}))
    now = campaign.entries[-1].milliseconds - HOUR_MS
    state = campaign.state
    assert max(task.issued_ms for task in state.ledger.open.values()) == now
    assert state.merging.waits_since_ms == now
    campaign.apply(campaign.update(2))
    assert campaign.history[-1]["kind"] == "merge"
    assert campaign.history[-1]["seconds"] == 2.5
    again = campaign.new_state()
    for entry in campaign.entries:
        again.apply(entry)
    assert campaign.fingerprint(again) == campaign.fingerprint()
    restored = campaign.new_state()
    tensors, meta = state.export()
    restored.restore(tensors, msgpack.unpackb(msgpack.packb(meta), strict_map_key=False))
    assert restored.timeline.clock_shift_ms == -HOUR_MS
