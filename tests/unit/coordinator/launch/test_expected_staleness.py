"""What concurrency and buffer size mean for the staleness of updates, and which settings the launch warns of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coordinator.launch.expected_staleness import expected_staleness, judge_staleness, largest_step
from fl_core.spec import CampaignSpec, parse_spec


def _spec(concurrency: int, *, rate: float = 1.0, **aggregation: Any) -> CampaignSpec:
    optimizer = {} if aggregation.get("strategy") in ("fedasync", "asyncfeded") else {"learning_rate": rate}
    return parse_spec(
        {
            "model": {"factory": "a:b"},
            "dispatch": {"concurrency": concurrency},
            "aggregation": aggregation,
            "server_optimizer": optimizer,
        }
    )


@pytest.mark.parametrize(
    ("concurrency", "aggregation", "staleness"),
    [
        (8, {"buffer_size": 1}, 7.0),
        (10, {}, 0.0),
        (2, {"buffer_size": 10}, 0.0),
        (30, {"strategy": "fedasync"}, 29.0),
        (30, {"strategy": "asyncfeded"}, 29.0),
        (30, {"strategy": "fedavg"}, None),
        (30, {"strategy": "mine:Strategy"}, None),
    ],
)
def test_expected(concurrency: int, aggregation: dict[str, Any], staleness: float | None) -> None:
    """In versions; a version is K updates, or one."""
    assert expected_staleness(_spec(concurrency, **aggregation)) == staleness


@pytest.mark.parametrize("staleness", [0, 1, 3, 7, 29])
def test_the_largest_step(staleness: int) -> None:
    """Just below it the recursion of delayed steps towards 0 dies away, just above it grows."""

    def after(factor: float) -> float:
        x = [1.0] * (staleness + 1)
        for _ in range(40_000):
            x.append(x[-1] - factor * largest_step(staleness) * x[-1 - staleness])
        return float(np.abs(x[-200:]).max())

    assert after(0.98) < 0.5
    assert not after(1.02) <= 2, "it may have grown beyond all numbers"


@pytest.mark.parametrize(
    ("concurrency", "aggregation", "said"),
    [
        (8, {"buffer_size": 1}, "server_optimizer.learning_rate = 1 .*lower it to 0.59"),
        (100, {"strategy": "fedasync"}, "99 versions old, and aggregation.max_staleness = 50 refuses"),
        (
            8,
            {"strategy": "asyncfeded", "args": {"kept_versions": 3}},
            "older than .*kept_versions = 3 .*keep 7 or more",
        ),
        (8, {"buffer_size": 1, "rate": 0.59}, ""),
        (8, {"buffer_size": 4}, ""),
        (10, {}, ""),
        (8, {"strategy": "asyncfeded", "args": {"kept_versions": 7}}, ""),
        (8, {"strategy": "asyncfeded"}, ""),
        (8, {"strategy": "fedasync"}, ""),
        (100, {"strategy": "fedasync", "max_staleness": 99}, ""),
        (100, {"strategy": "fedavg"}, ""),
    ],
)
def test_what_is_told(concurrency: int, aggregation: dict[str, Any], said: str) -> None:
    """One warning, with what to write instead; nothing where all goes together."""
    import re

    found = list(judge_staleness(_spec(concurrency, **aggregation)))
    assert len(found) == bool(said)
    for finding in found:
        assert finding.verdict == "warning"
        assert re.search(said, finding.sentence)
