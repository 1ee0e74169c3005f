"""What is said of local noise at the launch."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.launch.privacy.noise import judge_local_noise
from fl_core.spec import parse_spec
from fl_core.trial.findings import Finding


def judged(num_parameters: int, aggregation: dict[str, Any] | None = None, **privacy: Any) -> list[Finding]:
    spec = {"model": {"factory": "a:b"}, "privacy": privacy, "aggregation": aggregation or {}}
    return list(judge_local_noise(parse_spec(spec), num_parameters))


@pytest.mark.parametrize(("strategy", "size", "together"), [("fedbuff", 25, "80"), ("fedavg", 10, "126")])
def test_the_ratio_is_said(strategy: str, size: int, together: str) -> None:
    """z √d of one update, and z √(d / K) of a mean: 4 · √10,000 / √25 = 80."""
    aggregation = {"strategy": strategy} | ({"buffer_size": 25} if strategy == "fedbuff" else {})
    (finding,) = judged(10_000, aggregation, mode="local", noise_multiplier=4.0, max_participations=2, delta=1e-6)
    assert finding.verdict == "warning"
    assert "400 times as long as the update can be" in finding.detail
    assert f"in the mean of {size} still {together} times" in finding.detail
    assert "2 updates of a device come to epsilon = 3.308" in finding.detail
    assert "fewer parameters" in finding.remedy


def test_where_it_is_no_trouble() -> None:
    """A few parameters and a large buffer; and nothing is said of other modes here."""
    (finding,) = judged(100, {"buffer_size": 1600}, mode="local", noise_multiplier=4.0)
    assert (finding.verdict, finding.remedy) == ("ok", "")
    assert judged(100) == judged(100, mode="central", noise_multiplier=1.0) == []
