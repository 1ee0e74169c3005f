"""Shares of right predictions, counted by hand: sums of whole numbers, whatever the batches' sizes."""

from __future__ import annotations

import torch

from fl_core.errors import SpecError
from fl_core.metrics.counted import Counted
from fl_core.metrics.names import KEY


class Share:
    """The share of targets that are among the k largest outputs."""

    def __init__(self, k: int, name: str) -> None:
        self._k, self._name = k, name
        self._num_right = self._num = 0

    def update(self, pairs: Counted) -> None:
        """Take the targets of one batch that count in."""
        pairs = pairs.as_classes(self._name)
        if self._k == 1:
            predicted = pairs.output > 0 if pairs.kind == "binary" else pairs.output.argmax(1)
            right = predicted == pairs.target
        else:
            num_classes = 2 if pairs.kind == "binary" else pairs.output.shape[1]
            if self._k >= num_classes:
                raise SpecError(f"{KEY}: {self._name} is 1 whatever the model says, as it has {num_classes} classes.")
            right = (pairs.output.topk(self._k, dim=1).indices == pairs.target[:, None]).any(1)
        self._num_right += int(right.sum())
        self._num += len(right)

    def compute(self) -> float | None:
        """The number of all batches so far; None where there is none."""
        return self._num_right / self._num if self._num else None


class BalancedAccuracy:
    """The mean over the classes that occur of the share of each that was predicted rightly."""

    def __init__(self) -> None:
        self._right = self._support = torch.zeros(0, dtype=torch.float64)

    def update(self, pairs: Counted) -> None:
        """Take the targets of one batch that count in."""
        pairs = pairs.as_classes("balanced_accuracy")
        binary = pairs.kind == "binary"
        num_classes = 2 if binary else pairs.output.shape[1]
        predicted = (pairs.output > 0).long() if binary else pairs.output.argmax(1)
        support = torch.bincount(pairs.target, minlength=num_classes).double().cpu()
        right = torch.bincount(pairs.target[predicted == pairs.target], minlength=num_classes).double().cpu()
        self._right, self._support = (
            (right + self._right, support + self._support) if len(self._support) else (right, support)
        )

    def compute(self) -> float | None:
        """The number of all batches so far; None where there is none."""
        occurs = self._support > 0
        return float((self._right[occurs] / self._support[occurs]).mean()) if bool(occurs.any()) else None
