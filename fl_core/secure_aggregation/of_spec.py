"""What a spec says of masks: the terms, the clip, and what an order tells devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fl_core.privacy.grid import RESOLUTION
from fl_core.privacy.terms import Terms as PrivacyTerms
from fl_core.secure_aggregation.bounds import WEIGHTS
from fl_core.secure_aggregation.terms import Terms
from fl_core.spec import CampaignSpec


def terms_of(spec: CampaignSpec, num_elements: int) -> Terms:
    """The terms of a campaign with keepers.

    Args:
        num_elements: of an update.
    """
    section = spec.secure_aggregation
    return Terms(
        keepers=section.keepers,
        colluders=section.colluders,
        min_devices=section.min_devices,
        noise=noise_of(spec),
        num_elements=num_elements,
    )


def clip_of(spec: CampaignSpec) -> float:
    """C: the norm to which devices shorten their updates."""
    if spec.privacy.is_central:
        return spec.privacy.clip
    return 1.0 if spec.secure_aggregation.clip is None else spec.secure_aggregation.clip


def noise_of(spec: CampaignSpec) -> float:
    """The standard deviation of each seed's noise, in units of the grid; 0 where no noise is asked for.

    Whoever knows all seeds but one still has the whole noise of that one before them, so each seed's is as large as the
    budget counts: z times what one update of the highest weight can be.
    """
    if not spec.privacy.is_central:
        return 0.0
    terms = PrivacyTerms.of(spec.privacy)
    return 0.0 if terms is None else terms.noise_multiplier * WEIGHTS * RESOLUTION


def order_args(spec: CampaignSpec, keepers: Sequence[bytes]) -> dict[str, Any]:
    """What an order tells devices (``Masking.from_args``).

    Args:
        keepers: their certificates, DER, in the order of the spec's names.
    """
    section = spec.secure_aggregation
    return {
        "clip": clip_of(spec),
        "keepers": list(keepers),
        "colluders": section.colluders,
        "min_devices": section.min_devices,
        "noise": noise_of(spec),
    }
