"""What people are told: counts of devices, the largest epsilon, and what it means."""

from __future__ import annotations

import pytest

from coordinator.campaign.private.promise import describe, promise
from fedtide.testing.log import LogByHand
from fl_core.privacy.accountant import epsilon_of
from fl_core.privacy.status import PrivacyStatus


def test_devices_that_rest_or_have_spent_are_counted_once() -> None:
    """A device whose budget is spent does not rest as well."""
    privacy = {"mode": "central", "noise_multiplier": 2.0, "max_participations": 1, "min_separation": 3}
    log = LogByHand(privacy=privacy, aggregation={"buffer_size": 2}).open(9)
    assert log.state.privacy is not None
    log.state.privacy.noise_secret = b"n" * 32
    log.apply(*(log.update(number, worker=f"w{number}") for number in (1, 2, 3)))
    told = PrivacyStatus.from_map(describe(log.state.privacy, log.state.strategy.version))
    assert (told.releases, told.devices, told.spent, told.resting) == (1, 2, 2, 1)
    assert told.epsilon == pytest.approx(epsilon_of(0.5, 1e-6))
    assert told.noise_to_clip == 16.0
    assert "2 devices (2 spent, 1 resting)" in told.sentence


def test_the_promise_names_its_terms() -> None:
    """Unit, adjacency, and that nothing is claimed for sampling; what is not covered stands beside it."""
    log = LogByHand(privacy={"mode": "central", "epsilon": 2.0}).open(1)
    assert log.state.privacy is not None
    told = promise(log.state.privacy)
    assert (told["unit"], told["adjacency"], told["amplification"]) == ("device", "zero-out", "none")
    assert (told["epsilon"], told["budget"]) == (0.0, pytest.approx(2.0, abs=1e-6))
    assert told["not_covered"]
