"""What does not go with ``[privacy]``: rows of the table in ``combinations.py``, each with its sentence.

A promise for each device needs two bounds: how much one update can move a version, and how often it is used. What knows
neither, keeps updates for later, or weighs them by what is private itself, is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fl_core.spec.combinations import Choice

SUMMING = ("fedbuff", "fedavg", "fadas")
"""The strategies whose step is a function of one bounded sum; under privacy each update counts at most once in one."""


def strategy(it: Choice) -> str | None:
    """Strategies that look at single updates, or at old ones."""
    if not it.spec.privacy.is_central or it.strategy in SUMMING:
        return None
    return (
        f"privacy.mode = 'central' needs a strategy that moves the model by one sum of clipped updates, and "
        f"{it.strategy!r} does not; set aggregation.strategy to one of {', '.join(SUMMING)}"
    )


def no_delta(it: Choice) -> str | None:
    """What is no delta has no norm that could be clipped."""
    mode = it.spec.privacy.mode
    if mode == "off" or (it.merges in (None, "delta") and it.strategy != "partial"):
        return None
    return (
        f"privacy.mode = {mode!r} clips deltas of the whole model, and aggregation.strategy = {it.strategy!r} merges "
        f"{'parts' if it.strategy == 'partial' else str(it.merges).replace('_', ' ')}; use fedbuff"
    )


def codec_with_feedback(it: Choice) -> str | None:
    """A codec that leaves elements out, while the noise is on all of them."""
    if it.spec.privacy.mode == "off" or not it.has_feedback:
        return None
    return (
        f"codec.name = {it.codec!r} leaves elements out, and with privacy the noise is on all of them; use int8, bf16 "
        "or fp16"
    )


def weighting(it: Choice) -> str | None:
    """Weights that depend on a device's data, or on who else takes part."""
    if it.spec.privacy.mode == "off":
        return None
    if it.changed("aggregation.example_weighting") is not None:
        return "aggregation.example_weighting weighs by what privacy protects, a device's number of examples; remove it"
    if it.spec.aggregation.args.get("fairness"):
        return "aggregation.args.fairness gives one update more than its clipped weight; remove it with privacy"
    return None


def norm_bound(it: Choice) -> str | None:
    """A refusal that depends on the data."""
    bound = it.changed("aggregation.max_update_norm")
    if it.spec.privacy.mode == "off" or bound is None:
        return None
    return (
        f"aggregation.max_update_norm = {bound:g} would refuse by what is private; with privacy each update is clipped "
        "to privacy.clip instead, remove it"
    )


def kept_log(it: Choice) -> str | None:
    """A log of all updates as they came."""
    if not it.spec.privacy.is_central or not it.spec.checkpoint.keep_log:
        return None
    return "checkpoint.keep_log keeps every device's update without noise; remove it with privacy.mode = 'central'"


def of_the_sum(it: Choice) -> str | None:
    """Settings of the coordinator's sum, where devices add the noise."""
    if it.spec.privacy.mode != "local":
        return None
    for key in ("adaptive_clip", "min_separation"):
        if (value := it.changed(f"privacy.{key}")) is not None:
            shown = "true" if value is True else value
            return f"privacy.{key} = {shown} belongs to mode = 'central'; remove it with mode = 'local'"
    return None


PRIVATE = (
    ("`privacy.mode = \"central\"` with another strategy than `fedbuff`, `fedavg` and `fadas`",
     "one update has no bounded share in what they do, or is used again", strategy),
    ("`[privacy]` with a strategy that does not merge deltas of the whole model",
     "what is no delta has no norm to clip", no_delta),
    ("`[privacy]` with `topk`, or another codec with feedback", "the noise is on all elements", codec_with_feedback),
    ("`[privacy]` with `aggregation.example_weighting`, or with `fairness` in `aggregation.args`",
     "weights would depend on the data, or pass the bound", weighting),
    ("`[privacy]` with `aggregation.max_update_norm`", "a refusal would tell of the data; clipping takes its place",
     norm_bound),
    ("`privacy.mode = \"central\"` with `checkpoint.keep_log`", "it would keep each update without noise", kept_log),
    ("`privacy.adaptive_clip` or `min_separation` with `privacy.mode = \"local\"`",
     "they are rules of the coordinator's sum", of_the_sum),
)  # fmt: skip
"""Each row: the combination and the reason as the page of the methods says them, and the sentence."""
