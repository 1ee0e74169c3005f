"""The staleness to expect from a spec, and its settings that do not go with that.

With C tasks out at a time on as many devices of equal speed, and K updates to a version, an update is about
τ = C / K - 1 versions old when it is merged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from fl_core.aggregation.staleness import staleness_weight
from fl_core.built_in import STRATEGIES
from fl_core.spec import CampaignSpec
from fl_core.trial.findings import Finding

_EACH_IS_A_VERSION = ("fedasync", "asyncfeded")

# Measured: with the bound at 0.59 a campaign was calm up to a rate of 0.6 and swung from 0.75 (docs/methods.md).
_SWINGS_FROM = 1.25


def expected_staleness(spec: CampaignSpec) -> float | None:
    """τ in versions; None where the strategy waits for whole cohorts, or is the user's own and nobody knows its K.

    >>> keys = {"aggregation": {"buffer_size": 5}, "dispatch": {"concurrency": 30}}
    >>> expected_staleness(CampaignSpec.model_validate({"model": {"factory": "a:b"}, **keys}))
    5.0
    """
    name = spec.aggregation.strategy
    if name not in STRATEGIES or name == "fedavg":
        return None
    size = 1 if name in _EACH_IS_A_VERSION else spec.aggregation.buffer_size
    return max(0.0, spec.dispatch.concurrency / size - 1)


def largest_step(staleness: float) -> float:
    """The g below which x <- x - g · x(τ versions ago) dies away; from there on it swings ever more.

    It is 2 cos(τ π / (2 τ + 1)): S. A. Levin and R. M. May, "A note on difference-delay equations", Theoretical
    Population Biology 9 (1976), 178-187.

    >>> largest_step(0), round(largest_step(1), 3), round(largest_step(7), 3)
    (2.0, 1.0, 0.209)
    """
    return 2 * math.cos(staleness * math.pi / (2 * staleness + 1))


def judge_staleness(spec: CampaignSpec) -> Iterator[Finding]:
    """What can be known of it before the launch."""
    staleness = expected_staleness(spec)
    if staleness is None:
        return
    concurrency, bound = spec.dispatch.concurrency, spec.aggregation.max_staleness
    about = (
        f"with dispatch.concurrency = {concurrency} on as many devices an update is about {staleness:.3g} versions old"
    )
    if bound is not None and staleness > bound:
        yield Finding(
            "staleness", "warning", f"{about}, and aggregation.max_staleness = {bound} refuses older ones than that",
            "raise it or aggregation.buffer_size, or lower the concurrency",
        )  # fmt: skip
    kept = spec.aggregation.args.get("kept_versions") if spec.aggregation.strategy == "asyncfeded" else None
    if isinstance(kept, int) and kept < math.floor(staleness):
        yield Finding(
            "staleness", "warning", f"{about}, and of those older than aggregation.args.kept_versions = {kept} the "
            "oldest kept version stands in for the base, which counts them for more than it should",
            f"leave it out, or keep {math.ceil(staleness)} or more",
        )  # fmt: skip
    if spec.aggregation.strategy == "fedbuff" and spec.server_optimizer.name == "sgd":
        rate, weight = spec.server_optimizer.learning_rate, staleness_weight(spec.aggregation)(round(staleness))
        if rate * weight > _SWINGS_FROM * largest_step(staleness):
            yield Finding(
                "staleness", "warning", f"{about}: server_optimizer.learning_rate = {rate:g} is then a step with which "
                "the model can swing instead of settling, where tasks take a device close to an optimum of its own",
                f"lower it to {largest_step(staleness) / weight:.2g}, or raise aggregation.buffer_size",
            )  # fmt: skip
