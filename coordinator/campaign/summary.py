"""A campaign's outcome: the content of ``summary.json`` and of the table at the end; a function of the state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from coordinator.campaign.judging.scores import Scores
from coordinator.campaign.private.local import describe_local
from coordinator.campaign.private.promise import describe as describe_privacy
from coordinator.campaign.state import CampaignState
from fl_core.spec import CampaignSpec
from fl_core.vectors.layout import Layout
from fl_core.wire.digest import digest

Summary = dict[str, Any]


def summarise(
    campaign: str,
    spec: CampaignSpec,
    state: CampaignState,
    layout: Layout,
    *,
    now_ms: int = 0,
    max_workers: int | None = None,
) -> Summary:
    """All counts and scores.

    Args:
        campaign: its id.
        now_ms: the server's clock, for a campaign that is still running; an ended one has its own end.
        max_workers: how many workers are named: in ``merged_by_worker`` those with the most updates; None names all.

    Returns:
        What ``outline`` gives, what ``describe_devices`` gives, and ``model_digest``.
    """
    delivered = state.delivery.parameters(state.strategy)
    return {
        **outline(campaign, spec, state, layout, now_ms=now_ms),
        **describe_devices(spec, state, layout, max_workers),
        "model_digest": digest(delivered.values.view("u1").data),
    }


def outline(campaign: str, spec: CampaignSpec, state: CampaignState, layout: Layout, *, now_ms: int = 0) -> Summary:
    """All that is to be had at once, however many devices there are and however large the model is.

    Args:
        campaign, now_ms: as in ``summarise``.

    Returns:
        Plain JSON types. ``issued = merged + sum(rejected) + expired + cancelled + out`` holds; ``surplus`` counts
        updates that answered no open task and is no part of it.
    """
    ledger, scores = state.ledger, state.scores
    ended = state.phase.is_over or state.phase == "interrupted"
    wall_seconds = state.timeline.seconds(state.course.ended_ms if ended else now_ms)
    return {
        "campaign": campaign,
        "name": spec.campaign.name,
        "state": state.phase.value,
        "stop_reason": state.stop_reason,
        "strategy": spec.aggregation.strategy,
        "versions": state.strategy.version,
        "issued": ledger.issued,
        "merged": ledger.merged,
        "rejected": dict(sorted(ledger.rejected.items())),
        "expired": ledger.expired,
        "cancelled": ledger.cancelled,
        "out": ledger.out,
        "reissued": ledger.reissued,
        "surplus": dict(sorted(ledger.surplus.items())),
        "wall_seconds": wall_seconds,
        "updates_per_second": round(ledger.merged / wall_seconds, 3) if wall_seconds else 0.0,
        "staleness": describe_staleness(state.contributions.staleness),
        "delivered_version": state.delivery.version(state.strategy),
        "target_met": state.delivery.met,
        "metrics": _describe_metrics(spec, scores),
        "final_accuracy": scores.accuracy,
        "best_accuracy": scores.best_accuracy,
        "final_loss": scores.loss,
        "best_loss": scores.best_loss,
        "seconds_to": dict(scores.seconds_to),
        "rollbacks": state.guard.num_rollbacks,
        "num_parameters": layout.num_parameters,
        "bytes_up": state.contributions.bytes_up,
        "bytes_down": state.contributions.bytes_down,
        **_fruitless(state),
    }


def _describe_metrics(spec: CampaignSpec, scores: Scores) -> dict[str, dict[str, Any]]:
    """The newest and the best of each metric, and its direction."""
    names = (
        dict.fromkeys([*(each.name for each in spec.metrics), *scores.metrics]) if scores.version is not None else {}
    )
    return {
        name: {
            "final": scores.metrics.get(name),
            "best": scores.best.get(name),
            "higher_is_better": spec.is_higher_better(name),
        }
        for name in names
        if scores.version is not None
    }


def _fruitless(state: CampaignState) -> dict[str, Any]:
    """What a long stretch of failures has in common; of a campaign without a result also a short one."""
    fruitless = state.fruitless
    if not (fruitless.is_long or (state.phase.is_over and fruitless.failures)):
        return {}
    return {"fruitless": fruitless.describe(state.timeline.seconds(fruitless.since_ms))}


def _privacy(spec: CampaignSpec, state: CampaignState, layout: Layout) -> dict[str, Any]:
    """What devices have spent of their privacy budgets, whoever keeps them."""
    if state.privacy is not None:
        return {"privacy": describe_privacy(state.privacy, state.strategy.version)}
    local = describe_local(spec.privacy, state.contributions, layout.num_parameters)
    return {} if local is None else {"privacy": local}


def describe_devices(
    spec: CampaignSpec, state: CampaignState, layout: Layout, max_workers: int | None = None
) -> dict[str, Any]:
    """Who has contributed, and what devices say of themselves: it looks at every device that ever took part."""
    return {
        **describe_device_scores(state.contributions.device_scores, max_workers),
        **_privacy(spec, state, layout),
        "num_workers": len(state.contributions.merged_by_worker),
        "merged_by_worker": dict(sorted(state.contributions.merged_by_worker.most_common(max_workers))),
    }


def describe_staleness(counts: Counter[int]) -> dict[str, float]:
    """Mean and nearest-rank quantiles of a histogram.

    >>> describe_staleness(Counter({0: 2, 1: 1, 9: 1}))
    {'mean': 2.5, 'p50': 0, 'p95': 9, 'max': 9}
    """
    total = counts.total()
    if not total:
        return {"mean": 0.0, "p50": 0, "p95": 0, "max": 0}
    return {
        "mean": round(sum(value * count for value, count in counts.items()) / total, 4),
        "p50": _quantile(counts, 0.5),
        "p95": _quantile(counts, 0.95),
        "max": max(counts),
    }


def describe_device_scores(scores: Mapping[str, Mapping[str, float]], max_workers: int | None = None) -> dict[str, Any]:
    """Each device's newest scores (of the first ``max_workers`` by name), and their means over all devices.

    Nothing where no method reports any.

    >>> describe_device_scores({"a": {"personal_accuracy": 1.0}, "b": {"personal_accuracy": 0.5}})["device_means"]
    {'personal_accuracy': 0.75}
    """
    if not scores:
        return {}
    names = sorted({name for row in scores.values() for name in row})
    values = {name: [row[name] for row in scores.values() if name in row] for name in names}
    means = {name: round(sum(found) / len(found), 4) for name, found in values.items()}
    rounded = {worker: {k: round(v, 4) for k, v in row.items()} for worker, row in sorted(scores.items())[:max_workers]}
    return {"device_means": means, "device_scores": rounded}


def _quantile(counts: Counter[int], share: float) -> int:
    wanted, seen = share * counts.total(), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    return max(counts)
