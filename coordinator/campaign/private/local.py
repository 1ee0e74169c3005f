"""What is known of devices' budgets where they keep them themselves, for status and summary."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from coordinator.campaign.contributions import Contributions
from fl_core.privacy.accountant import epsilon_of
from fl_core.privacy.status import PrivacyStatus
from fl_core.privacy.terms import Terms
from fl_core.spec import PrivacySection


def describe_local(section: PrivacySection, contributions: Contributions, num_parameters: int) -> dict[str, Any] | None:
    """The same numbers as of central noise, as plain JSON types; None without local noise.

    They count what was merged. A device itself also counts what it made and nobody got, so it may have spent more, up
    to its budget.
    """
    terms = _terms(section)
    if terms is None or not terms.is_local:
        return None
    most = max(contributions.merged_by_worker.values(), default=0)
    return PrivacyStatus(
        epsilon=min(terms.budget.epsilon, epsilon_of(math.sqrt(most * terms.cost), terms.delta)),
        budget=terms.budget.epsilon,
        delta=terms.delta,
        noise_multiplier=terms.noise_multiplier,
        clip=terms.clip,
        noise_to_clip=terms.noise_to_signal(num_parameters),
        releases=contributions.merged_by_worker.total(),
        devices=len(contributions.merged_by_worker),
        spent=len(contributions.given_all),
    ).to_map()


@lru_cache(maxsize=4)
def _terms(section: PrivacySection) -> Terms | None:
    """It takes milliseconds where noise follows from epsilon, and statuses are told twice a second."""
    return Terms.of(section)
