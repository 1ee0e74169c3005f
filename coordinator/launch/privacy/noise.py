"""What the noise of a private campaign will do to it, said before it begins."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fl_core.privacy.terms import Terms
from fl_core.spec import CampaignSpec
from fl_core.trial.findings import Finding


def judge_local_noise(spec: CampaignSpec, num_parameters: int) -> Iterator[Finding]:
    """How long the noise of devices is against what they have learned, at best.

    The longest update is one clip long, and its noise z √d clips; of the K updates of a version, the noise is still
    z √(d / K) times as long as the mean can be.
    """
    terms = Terms.of(spec.privacy)
    if terms is None or not terms.is_local:
        return
    size = spec.dispatch.concurrency if spec.aggregation.strategy == "fedavg" else spec.aggregation.buffer_size
    alone = terms.noise_to_signal(num_parameters)
    together = alone / math.sqrt(size)
    promised = (
        f"privacy.mode = 'local': z = {terms.noise_multiplier:.4g}, so that {terms.max_participations} updates of a "
        f"device come to epsilon = {terms.budget.epsilon:.4g} at delta = {terms.delta:g}"
    )
    detail = (
        f"{promised}; with {num_parameters} parameters the noise in one update is {alone:.3g} times as long as the "
        f"update can be (z √d), and in the mean of {size} still {together:.3g} times"
    )
    if together > 1:
        yield Finding(
            "privacy", "warning", detail,
            "train fewer parameters, merge more updates, let devices take part less often, or use mode = 'central'",
        )  # fmt: skip
    else:
        yield Finding("privacy", "ok", detail)
