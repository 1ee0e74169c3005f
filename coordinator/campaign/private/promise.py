"""What people are told of a private campaign: how much is spent, and what that promises to whom."""

from __future__ import annotations

from typing import Any

from coordinator.campaign.private.privacy import Privacy
from fl_core.privacy.status import PrivacyStatus

NOT_COVERED = (
    "who takes part, when, and with how stale an update: counts, times and names in monitors, history and summary",
    "what the operators of coordinator and broker see while it runs: updates without noise, in memory, in the log and "
    "in its files, in checkpoints and spool",
    "what devices say beside their updates where privacy.metrics is true",
)
"""The limits of the promise, said at the launch and in ``privacy.json``."""


def describe(privacy: Privacy, version: int) -> dict[str, Any]:
    """The map of a ``PrivacyStatus``; it looks at every device that has spent anything.

    Args:
        version: the campaign's.
    """
    spending = privacy.budgets.filter
    return PrivacyStatus(
        epsilon=spending.largest_epsilon,
        budget=spending.budget.epsilon,
        delta=spending.budget.delta,
        noise_multiplier=privacy.multiplier,
        clip=privacy.clip,
        noise_to_clip=round(privacy.noise_to_clip, 3),
        releases=len(privacy.budgets.releases),
        devices=len(spending.spent),
        spent=len(privacy.spent),
        resting=len(privacy.resting(version)),
    ).to_map()


def promise(privacy: Privacy) -> dict[str, Any]:
    """What the published versions promise to each device, as ``privacy.json`` has it."""
    spending = privacy.budgets.filter
    return {
        "mechanism": "rounded Gaussian noise on sums of clipped updates",
        "epsilon": spending.largest_epsilon,
        "delta": spending.budget.delta,
        "unit": "device",
        "adjacency": "zero-out",
        "amplification": "none",
        "budget": spending.budget.epsilon,
        "noise_multiplier": privacy.multiplier,
        "clip": privacy.clip,
        "releases": len(privacy.budgets.releases),
        "devices": len(spending.spent),
        "not_covered": list(NOT_COVERED),
    }
