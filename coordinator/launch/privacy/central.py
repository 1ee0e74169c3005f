"""What central noise will do to a campaign, what it promises, and what it does not, said before it begins."""

from __future__ import annotations

import math

import structlog

from coordinator.campaign.private.privacy import Privacy
from coordinator.campaign.private.promise import NOT_COVERED
from fl_core.spec import PrivacySection

log = structlog.get_logger()


def tell(privacy: Privacy, settings: PrivacySection, num_parameters: int) -> None:
    """Log it.

    Args:
        privacy: as it begins, or goes on.
        settings: the spec's.
        num_parameters: d, by whose root the noise grows.
    """
    size, budget = privacy.buffer_size, privacy.budgets.filter.budget
    step = privacy.noise_to_clip / size
    log.info(
        "privacy: no device spends more than epsilon, for all that it ever contributes",
        epsilon=round(budget.epsilon, 6), delta=settings.delta, unit="device", adjacency="zero-out",
        amplification="none", fresh_updates=budget.participations(privacy.cost(0)),
        noise_multiplier=round(privacy.multiplier, 4), clip=privacy.clip,
    )  # fmt: skip
    say = log.warning if step > 1 else log.info
    say(
        "privacy: the noise of a merge, against the longest mean that there can be (z √d / K)",
        ratio=round(step, 3), noise_multiplier=round(privacy.multiplier, 4), parameters=num_parameters, updates=size,
        **({"remedy": f"merge more updates (about {math.ceil(privacy.noise_to_clip)}), train fewer parameters, or let "
            "devices take part less often"} if step > 1 else {}),
    )  # fmt: skip
    log.info("privacy: not covered", what=list(NOT_COVERED))
