"""The built-in metrics by name: what each is of, and whether higher or lower is better."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from fl_core.program.extras import need

KEY = "evaluation.metrics"

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
"""Names that no metric may have, since reasons to stop have them."""

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


def best_possible(name: str) -> float | None:
    """What a built-in metric cannot be better than; None for other names.

    >>> best_possible("auc"), best_possible("rmse"), best_possible("loss")
    (1.0, 0.0, None)
    """
    if name in SHARES or name == "r2" or top_k(name) is not None:
        return 1.0
    return {"mae": 0.0, "rmse": 0.0, "perplexity": 1.0}.get(name)


def needs_torchmetrics(name: str) -> bool:
    """Whether a built-in metric is torchmetrics'."""
    return name not in WITHOUT_TORCHMETRICS and top_k(name) is None


def verify_installed(names: Iterable[str]) -> None:
    """Refuse built-in metrics whose package is missing.

    Raises:
        SpecError: it names them and the extra.
    """
    if needing := [name for name in names if needs_torchmetrics(name)]:
        need(f"{KEY} = {needing!r}", "torchmetrics")
