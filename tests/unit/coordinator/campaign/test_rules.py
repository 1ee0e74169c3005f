"""By which rules a campaign's entries were applied: known from its checkpoints on, and 1 before that."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.campaign.rules import RULES, rules_of


@pytest.mark.parametrize(("before", "rules"), [(None, [RULES]), ({}, [1, RULES]), ({"rules": [RULES]}, [RULES])])
def test_a_campaign_knows_all_rules_that_it_ran_under(before: dict[str, Any] | None, rules: list[int]) -> None:
    """A new one those of this release; one of an earlier release that as well, though it did not say so."""
    assert rules_of(before) == rules
