"""What is known of the budgets that devices keep themselves."""

from __future__ import annotations

import math

import pytest

from coordinator.campaign.contributions import Contributions
from coordinator.campaign.private.local import describe_local
from fl_core.privacy.accountant import epsilon_of
from fl_core.spec import PrivacySection


def test_what_was_merged_of_the_device_that_gave_most() -> None:
    """Four updates of at most eight, each (2 / z)², and one device that has said that it gives no more."""
    section = PrivacySection(mode="local", noise_multiplier=4.0, delta=1e-5, max_participations=8, clip=0.5)
    contributions = Contributions()
    contributions.merge(["a", "b", "a", "a", "a"], [0] * 5)
    contributions.note_given_all("b")
    told = describe_local(section, contributions, 10_000)
    assert told is not None
    assert told["epsilon"] == pytest.approx(epsilon_of(math.sqrt(4 * 4 / 16), 1e-5))
    assert told["budget"] == pytest.approx(epsilon_of(math.sqrt(8 * 4 / 16), 1e-5), rel=1e-6)
    assert (told["releases"], told["devices"], told["spent"], told["noise_to_clip"]) == (5, 2, 1, 400.0)


def test_nothing_of_other_modes() -> None:
    """Central budgets are the coordinator's own, and are told elsewhere."""
    for section in (PrivacySection(), PrivacySection(mode="central", epsilon=8.0)):
        assert describe_local(section, Contributions(), 10) is None
