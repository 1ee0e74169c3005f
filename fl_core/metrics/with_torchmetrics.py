"""The built-in metrics that torchmetrics (the extra ``evaluation``) computes, in float64.

F1, AUC and average precision are class 1's where there are two classes, and otherwise the mean over the classes that
occur; so is mean IoU, whatever their number. Where the order of all predictions matters (AUC, average precision), they
are kept until the end.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fl_core.errors import SpecError
from fl_core.metrics.counted import Counted, probabilities
from fl_core.metrics.names import KEY


def _make(name: str, args: dict[str, Any], make: Callable[..., Any], **more: Any) -> Any:
    """One of torchmetrics' metrics, which reckons in float64.

    Raises:
        SpecError: it refuses ``args``.
    """
    try:
        metric = make(**more, **args)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{KEY}: {name} does not take args = {args!r}: {error}.") from None
    return metric.set_dtype(torch.float64)


class _Lazy:
    """A metric that is made when the number of classes is known."""

    def __init__(self, name: str, args: dict[str, Any]) -> None:
        self._name, self._args = name, args
        self._metric: Any = None

    def _made(self, make: Callable[..., Any], device: torch.device, **more: Any) -> Any:
        if self._metric is None:
            self._metric = _make(self._name, self._args, make, **more).to(device)
        return self._metric


class Confusion(_Lazy):
    """F1 and mean IoU: of predicted classes against right ones."""

    def update(self, pairs: Counted) -> None:
        """Take the targets of one batch that count in."""
        import torchmetrics.classification as kept

        pairs = pairs.as_classes(self._name)
        binary = pairs.kind == "binary"
        predicted = (pairs.output > 0).long() if binary else pairs.output.argmax(1)
        num_classes = 2 if binary else pairs.output.shape[1]
        if self._name == "f1" and num_classes == 2 and "average" not in self._args:
            metric = self._made(kept.BinaryF1Score, predicted.device, validate_args=False)
        else:
            make = kept.MulticlassF1Score if self._name == "f1" else kept.MulticlassJaccardIndex
            metric = self._made(make, predicted.device, num_classes=num_classes, validate_args=False)
        metric.update(predicted, pairs.target)

    def compute(self) -> float | None:
        """The number of all batches so far; None where there is none."""
        return None if self._metric is None else float(self._metric.compute())


class Ranking(_Lazy):
    """AUC and average precision, exactly: from the order of all predictions, which are kept until the end."""

    def __init__(self, name: str, args: dict[str, Any]) -> None:
        super().__init__(name, args)
        self._binary = False
        self._support = torch.zeros(0, dtype=torch.int64)

    def update(self, pairs: Counted) -> None:
        """Take the targets of one batch that count in."""
        import torchmetrics.classification as kept

        pairs = pairs.as_classes(self._name)
        found = probabilities(pairs)
        self._binary = pairs.kind == "binary" or found.shape[1] == 2
        if self._binary:
            found = found if pairs.kind == "binary" else found[:, 1]
            make: Any = kept.BinaryAUROC if self._name == "auc" else kept.BinaryAveragePrecision
            metric = self._made(make, found.device, validate_args=False)
        else:
            make = kept.MulticlassAUROC if self._name == "auc" else kept.MulticlassAveragePrecision
            more = {"num_classes": found.shape[1], "average": None, "validate_args": False}
            metric = self._made(make, found.device, **more)
        support = torch.bincount(pairs.target, minlength=2 if self._binary else found.shape[1]).cpu()
        self._support = support + self._support if len(self._support) else support
        metric.update(found, pairs.target)

    def compute(self) -> float | None:
        """The number of all batches so far; None where there is none."""
        if self._metric is None:
            return None
        # What torchmetrics says of a class without examples, or without counterexamples, is 0, and no measurement.
        occurs = self._support > 0
        if self._name == "auc":
            occurs &= self._support < self._support.sum()
        if self._binary:
            return float(self._metric.compute()) if bool(occurs[1]) else None
        if not bool(occurs.any()):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of those classes
            each = self._metric.compute().cpu()
        return float(each[occurs].double().mean())


class Perplexity:
    """exp of the mean cross-entropy over the targets that count."""

    def __init__(self, args: dict[str, Any]) -> None:
        from torchmetrics.text import Perplexity

        self._metric = _make("perplexity", args, Perplexity)

    def update(self, pairs: Counted) -> None:
        """Take the targets of one batch that count in."""
        pairs = pairs.as_classes("perplexity")
        logits = pairs.output.double()
        if pairs.kind == "binary":
            logits = torch.stack([torch.zeros_like(logits), logits], 1)
        self._metric.to(logits.device).update(logits[None], pairs.target[None])

    def compute(self) -> float | None:
        """The number of all batches so far; None where there is none."""
        return float(self._metric.compute())


class Numbers:
    """MAE and RMSE over all elements; R² as the mean over the columns."""

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self._name = name
        self._metric = _make(name, {}, make)
        self._num = 0
        self._first: Tensor | None = None
        self._varies = False

    def update(self, pairs: Counted) -> None:
        """Take the targets of one batch that count in."""
        if pairs.kind != "numbers":
            raise SpecError(f"{KEY}: {self._name} is of numbers, and the held-out targets are classes.")
        output, target = pairs.output.double(), pairs.target.double()
        self._num += len(target)
        if self._name != "r2":
            output, target = output.flatten(), target.flatten()
        elif not self._varies:
            self._first = target[:1] if self._first is None else self._first
            self._varies = bool((target != self._first).any())
        if self._name == "r2" and output.shape[1] == 1:
            output, target = output[:, 0], target[:, 0]
        self._metric.to(output.device).update(output, target)

    def compute(self) -> float | None:
        """The number of all batches so far; None where there is none."""
        # One target, or the same over and over, has no variance to explain.
        if not self._num or (self._name == "r2" and (self._num < 2 or not self._varies)):
            return None
        return float(self._metric.compute())
