"""The built-in metrics by name: what each is of, and whether higher or lower is better."""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["classes", "numbers", "any"]

CLASSES = ("accuracy", "balanced_accuracy", "auc", "average_precision", "f1", "mean_iou", "perplexity")
"""Metrics of predicted classes, beside ``top_<k>_accuracy``."""
NUMBERS = ("mae", "rmse", "r2")
"""Metrics of predicted numbers."""
METRICS = (*CLASSES, *NUMBERS)

LOWER_IS_BETTER = frozenset({"loss", "perplexity", "mae", "rmse"})

SHARES = frozenset({"accuracy", "balanced_accuracy", "auc", "average_precision", "f1", "mean_iou"})
"""Those that lie in [0, 1]."""

# These are sums that are ours; the others are torchmetrics'.
WITHOUT_TORCHMETRICS = frozenset({"accuracy", "balanced_accuracy"})

RESERVED = frozenset({"loss", "updates", "versions", "seconds", "asked", "diverged", "interrupted", "fruitless"})
"""What no metric may be called, since reasons to stop have these names."""

_TOP_K = re.compile(r"top_([1-9][0-9]{0,4})_accuracy")


def top_k(name: str) -> int | None:
    """k of ``top_<k>_accuracy``; None for any other name.

    >>> top_k("top_5_accuracy"), top_k("accuracy")
    (5, None)
    """
    found = _TOP_K.fullmatch(name)
    return int(found[1]) if found else None


def is_built_in(name: str) -> bool:
    """Whether there is a metric of this name."""
    return name in METRICS or top_k(name) is not None


def kind_of(name: str) -> Kind:
    """What a built-in metric is of."""
    return "numbers" if name in NUMBERS else "classes"


def needs_torchmetrics(name: str) -> bool:
    """Whether a built-in metric is torchmetrics'."""
    return name not in WITHOUT_TORCHMETRICS and top_k(name) is None
