"""The targets of a batch that count, beside what was predicted for them: built-in metrics are reckoned from these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fl_core.errors import SpecError
from fl_core.training.losses import Loss
from fl_core.training.targets import class_axis, class_rows, class_targets, same_shape


@dataclass(frozen=True, slots=True)
class Counted:
    """One batch's pairs.

    Attributes:
        kind: ``"classes"``, ``"binary"`` or ``"numbers"``.
        output: logits float ``(num, classes)``; one logit each ``(num,)``; numbers ``(num, columns)``.
        target: int64 ``(num,)``; 0 or 1, int64 ``(num,)``; numbers ``(num, columns)``.
    """

    kind: Literal["classes", "binary", "numbers"]
    output: Tensor
    target: Tensor

    @property
    def is_finite(self) -> bool:
        """Whether a diverged model's output is not among the predictions; minus infinity is a masked class."""
        return not bool((self.output.isnan() | self.output.isposinf()).any())

    def as_classes(self, metric: str) -> Counted:
        """Predicted classes, for a metric that needs them.

        Raises:
            SpecError: the targets are no classes.
        """
        if self.kind == "numbers":
            whole, columns = self.target, self.target.shape[1]
            if columns == 1 and self.output.shape[1] == 1 and bool(((whole == 0) | (whole == 1)).all()):
                return Counted("binary", self.output[:, 0], whole[:, 0].long())
            raise SpecError(
                f"{metric} is of classes, and the held-out targets of the spec's training.loss are numbers; take mae, "
                "rmse or r2, or a loss over classes."
            )
        if self.kind == "classes" and self.target.numel():
            low, high = int(self.target.min()), int(self.target.max())
            if low < 0 or high >= self.output.shape[1]:
                raise SpecError(
                    f"{metric} is of classes: the held-out targets go from {low} to {high}, and the model puts out "
                    f"{self.output.shape[1]} classes."
                )
        return self


def counted(loss: Loss, output: Tensor, target: Tensor) -> Counted:
    """The pairs of a batch, as the loss understands output and target.

    With an own loss, integer targets beside an output of several classes are classes, and all else is numbers.

    Raises:
        DataError, SpecError: their shapes or types do not fit each other.
    """
    match loss.name:
        case "cross_entropy":
            return _classes(loss, output, target)
        case "bce_with_logits":
            output, target = same_shape(loss.name, output, target)
            counts = target != loss.ignored(target)
            return Counted("binary", output[counts].flatten(), (target[counts] > 0.5).long().flatten())
        case "mse" | "l1":
            return _numbers(loss, *same_shape(loss.name, output, target))
    if not target.is_floating_point() and output.ndim == target.ndim + 1 and max(output.shape[1], output.shape[-1]) > 1:
        return _classes(loss, output, target)
    return _numbers(loss, *same_shape(loss.name, output, target))


def _classes(loss: Loss, output: Tensor, target: Tensor) -> Counted:
    target = class_targets(output, target)
    axis = class_axis(output, target, loss.class_dim)
    rows = class_rows(output, axis)
    if target.is_floating_point():
        return Counted("classes", rows, class_rows(target, axis).argmax(1))
    flat = target.flatten()
    counts = flat != loss.ignored(target)
    return Counted("classes", rows[counts], flat[counts])


def _numbers(loss: Loss, output: Tensor, target: Tensor) -> Counted:
    ignored = loss.ignored(target) if loss.name in ("mse", "l1") else None
    if ignored is not None:
        counts = target != ignored
        return Counted("numbers", output[counts][:, None], target[counts][:, None])
    if target.ndim < 2:
        return Counted("numbers", output.reshape(-1, 1), target.reshape(-1, 1))
    return Counted("numbers", output.flatten(1), target.flatten(1))


def probabilities(pairs: Counted) -> Tensor:
    """Softmax or sigmoid of the logits, in float64, which rounds few different ones to the same."""
    logits = pairs.output.double()
    return logits.sigmoid() if pairs.kind == "binary" else torch.softmax(logits, 1)
