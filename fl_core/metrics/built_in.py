"""The built-in metrics, by the names that ``fl_core/metrics/names.py`` lists."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol

from fl_core.metrics.counted import Counted
from fl_core.metrics.names import top_k
from fl_core.metrics.shares import BalancedAccuracy, Share
from fl_core.metrics.with_torchmetrics import Confusion, Numbers, Perplexity, Ranking
from fl_core.spec import MetricSection


class Scorer(Protocol):
    """A built-in metric."""

    def update(self, pairs: Counted) -> object:
        """Take the targets of one batch that count in."""
        ...

    def compute(self) -> float | None:
        """The number of all batches so far; None where there is none."""
        ...


def built_in(section: MetricSection) -> Scorer:
    """The metric of that name.

    Raises:
        SpecError: it does not take its arguments.
    """
    name, args = section.name, dict(section.args)
    if (k := top_k(name)) is not None or name == "accuracy":
        return Share(k or 1, name)
    if name == "balanced_accuracy":
        return BalancedAccuracy()
    with warnings.catch_warnings():
        # Of packages that torchmetrics looks for and that nothing here needs.
        warnings.simplefilter("ignore")
        import torchmetrics
    made: dict[str, Callable[[], Scorer]] = {
        "auc": lambda: Ranking(name, args),
        "average_precision": lambda: Ranking(name, args),
        "f1": lambda: Confusion(name, args),
        "mean_iou": lambda: Confusion(name, args),
        "perplexity": lambda: Perplexity(args),
        "mae": lambda: Numbers(name, lambda: torchmetrics.MeanAbsoluteError(**args)),
        "rmse": lambda: Numbers(name, lambda: torchmetrics.MeanSquaredError(squared=False, **args)),
        "r2": lambda: Numbers(name, lambda: torchmetrics.R2Score(**args)),
    }
    return made[name]()
