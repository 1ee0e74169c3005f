"""What a launch with central noise says: the promise, the noise against the longest mean, and the limits."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from coordinator.launch.privacy.central import tell
from fedtide.testing.log import LogByHand


def told(**aggregation: Any) -> dict[str, dict[str, Any]]:
    """What is logged for 64 parameters, by the first words."""
    log = LogByHand(privacy={"mode": "central", "epsilon": 8.0}, aggregation=aggregation)
    assert log.state.privacy is not None
    with structlog.testing.capture_logs() as lines:
        tell(log.state.privacy, log.spec.privacy, 64)
    return {line["event"].split(",")[0]: dict(line) for line in lines}


@pytest.mark.parametrize(("size", "level"), [(10, "warning"), (100, "info")])
def test_the_noise_is_held_against_the_longest_mean(size: int, level: str) -> None:
    """z √d / K is 3.69 * 8 / K: above 1 the noise is longer than all that devices can say together."""
    line = told(buffer_size=size)["privacy: the noise of a merge"]
    assert line["ratio"] == pytest.approx(3.6936 * 8 / size, abs=1e-3)
    assert (line["log_level"], "remedy" in line) == (level, level == "warning")


def test_the_promise_and_its_limits_are_said() -> None:
    """Before anything is published."""
    lines = told()
    promise = lines["privacy: no device spends more than epsilon"]
    assert (promise["epsilon"], promise["delta"], promise["unit"], promise["amplification"]) == (
        8.0, 1e-6, "device", "none"
    )  # fmt: skip
    assert promise["fresh_updates"] == 32
    assert len(lines["privacy: not covered"]["what"]) == 3
