"""The status that a coordinator writes is the one that watchers read: no field of it gets lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from coordinator.telemetry.status import StatusWriter
from coordinator.telemetry.timing import Timing
from fl_core.broker.overview.status import read_status
from fl_core.clock import MACHINE
from fl_core.spec import CampaignSpec
from fl_core.wire.status import Status


class _Clock:
    machine = MACHINE

    def now_ms(self) -> int:
        return 5_000

    server_ms = now_ms


def _status(bench: Callable[..., Any]) -> dict[str, Any]:
    made = bench().open(3)
    timing = Timing()
    timing.add_update({"train": 0.2}, life_seconds=1.0, log_seconds=0.1, merge_seconds=0.01, num_bytes=10)
    made.state.scores.loss = 0.25
    made.state.contributions.device_scores = {"w": {"personal_accuracy": 0.5}}
    spec = CampaignSpec.model_validate({**made.spec.model_dump(), "stop": {"updates": 50}})
    clock: Any = _Clock()
    status = StatusWriter("digits-1", spec, made.state, made.layout, timing, clock, lambda _: None)
    found: dict[str, Any] = msgpack.unpackb(status.write(1.5))
    return found


def test_what_is_written_is_read(bench: Callable[..., Any]) -> None:
    """Each field passes its own form."""
    status = _status(bench)
    assert read_status(msgpack.packb(status)).to_map() == status


@pytest.mark.parametrize("poison", [None, -1, 2**60, 1e308, float("nan"), "x", [], [1], {"x": "y"}, {"sums": {"a": 1}}])
def test_a_field_of_another_form_costs_that_field(bench: Callable[..., Any], poison: Any) -> None:
    """The others stay, and what comes out can be counted on."""
    status = _status(bench)
    for name in status:
        if name != "state":
            found = read_status(msgpack.packb({**status, name: poison})).to_map()
            others = found.keys() - {name}
            assert {other: found[other] for other in others} == {other: status[other] for other in others}
            if name in ("issued", "bytes_up"):
                assert type(found[name]) is int
    assert read_status(msgpack.packb({**status, "state": poison})) == Status()
