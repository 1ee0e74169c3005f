"""The status, written twice a second, costs no more than its share however large model and fleet are."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

from coordinator.campaign import summary
from coordinator.telemetry import status as status_board
from coordinator.telemetry.status import StatusWriter
from coordinator.telemetry.timing import Timing
from fl_core.clock import MACHINE


def test_the_model_is_not_hashed_and_all_devices_are_looked_at_now_and_then(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ranking that took long is shown again for a while; at the end it is a new one."""
    campaign = bench(aggregation={"buffer_size": 1}).open(3)
    clock: Any = SimpleNamespace(now_ms=lambda: 2_000_000, server_ms=lambda: 2_000_000, machine=MACHINE)
    status = StatusWriter(
        "digits-1", campaign.spec, campaign.state, campaign.layout, Timing(), clock, lambda progress: None
    )
    looked = []

    def describe(*args: Any) -> dict[str, Any]:
        looked.append(args)
        time.sleep(0.01)
        return summary.describe_devices(*args)

    def no_digest(payload: Any) -> str:
        raise AssertionError("the whole model was hashed for a status")

    monkeypatch.setattr(status_board, "describe_devices", describe)
    monkeypatch.setattr(summary, "digest", no_digest)
    first = msgpack.unpackb(status.write(0.0))
    campaign.apply(campaign.update(1, worker="a"))
    again = msgpack.unpackb(status.write(0.0))
    assert len(looked) == 1
    assert again["merged"] == 1
    assert again["merged_by_worker"] == first["merged_by_worker"] == {}
    campaign.apply(campaign.event("stopped", {"reason": "asked", "control": ""}))
    assert msgpack.unpackb(status.write(0.0))["merged_by_worker"] == {"a": 1}
