"""The losses that a spec may name: what each averages over is part of its value, so that averages add up.

A loss of a batch is a *mean* and the *weight* that it is the mean over: how many targets counted, or the sum of their
class weights. The loss of several batches is the sum of mean x weight, divided by the sum of the weights, whatever the
batches' sizes. A batch in which nothing counts has weight 0 and no mean.

================  ====================================================  ===============================================
``training.loss`` mean over                                             left out
================  ====================================================  ===============================================
cross_entropy     class numbers that count, by class weight; all rows   targets of ``ignore_index``, which is -100
                  where the target holds probabilities
bce_with_logits   elements that count                                   targets of ``ignore_index``, which is -100
mse, l1           elements                                              targets of ``ignore_index``, if one is set
an import path    what it says, by returning (sum, weight); a scalar    integer targets of ``ignore_index``, which is
                  is taken as the mean over class numbers that count,   -100, in what a scalar is the mean over
                  or over examples where targets are floats
================  ====================================================  ===============================================

``training.loss_average = "example"`` takes the mean of each example first, and then the mean over the examples in which
something counts: a long sequence weighs no more than a short one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from fl_core.errors import SpecError
from fl_core.factory import resolve
from fl_core.spec import TrainingSection
from fl_core.training.targets import IGNORED, class_axis, class_targets, same_shape

BUILT_IN = ("cross_entropy", "mse", "bce_with_logits", "l1")


class BatchLoss(NamedTuple):
    """A batch's loss.

    Attributes:
        mean: scalar, what training minimises; NaN where nothing counts.
        weight: what it is the mean over; 0 where nothing counts.
    """

    mean: Tensor
    weight: Tensor | float


_Elementwise: TypeAlias = Callable[..., Tensor]
_ELEMENTWISE: dict[str, _Elementwise] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
}


class Loss:
    """The loss that a ``[training]`` section names.

    Args:
        settings: ``loss``, ``loss_average``, ``ignore_index``, ``class_dim``, ``class_weights``.

    Attributes:
        name: ``training.loss``.
        class_dim: ``training.class_dim``.

    Raises:
        SpecError: there is no such loss.
    """

    def __init__(self, settings: TrainingSection) -> None:
        self.name = settings.loss
        self.class_dim = settings.class_dim
        self._by_example = settings.loss_average == "example"
        self._ignore_index = settings.ignore_index
        self._class_weights = settings.class_weights
        self._own: Callable[..., Any] | None = None
        if ":" in self.name:
            self._own = resolve(self.name, "training.loss")
        elif self.name not in BUILT_IN:
            raise SpecError(f"training.loss = {self.name!r} is not known; {_hint(self.name)}")

    @property
    def is_own(self) -> bool:
        """Whether it is a user's own."""
        return self._own is not None

    def ignored(self, target: Tensor) -> int | None:
        """The value of targets that do not count; None where all do."""
        if self._ignore_index is not None:
            return self._ignore_index
        if self.name == "cross_entropy" or self.is_own:
            return None if target.is_floating_point() else IGNORED
        return IGNORED if self.name == "bce_with_logits" else None

    def labelled(self, target: Tensor) -> Tensor | None:
        """Which examples have a target that counts, bool ``(batch,)``; None where all must have."""
        if (ignored := self.ignored(target)) is None or not target.ndim:
            return None
        return (target != ignored).flatten(1).any(1) if target.ndim > 1 else target != ignored

    def __call__(self, output: Tensor, target: Tensor) -> BatchLoss:
        """The loss of a batch.

        Args:
            output, target: as the model and the dataset give them; see ``fl_core/training/targets.py``.

        Raises:
            DataError: their shapes or types do not fit each other.
            SpecError: it is open which dimension holds the classes, or an own loss returned something else.
        """
        if self._own is not None:
            return self._of_own(self._own(output, target), target)
        if self.name == "cross_entropy":
            return self._cross_entropy(output, target)
        return self._elementwise(_ELEMENTWISE[self.name], *same_shape(self.name, output, target))

    def _cross_entropy(self, output: Tensor, target: Tensor) -> BatchLoss:
        target = class_targets(output, target)
        axis = class_axis(output, target, self.class_dim)
        weights = self._weights(output, axis)
        if output.ndim > 2 and axis == -1 and not self._by_example:
            output = output.flatten(0, -2)
            target = target.flatten(0, -2) if target.is_floating_point() else target.flatten()
        elif axis == -1:
            output = output.movedim(-1, 1)
            target = target.movedim(-1, 1) if target.is_floating_point() else target
        if target.is_floating_point():
            rows = target.numel() / target.shape[1] if target.shape[1] else 0
            if not self._by_example:
                return BatchLoss(F.cross_entropy(output, target, weight=weights), rows)
            each = F.cross_entropy(output, target, weight=weights, reduction="none")
            return _mean_of_means(each, torch.ones_like(each))
        ignored = IGNORED if self._ignore_index is None else self._ignore_index
        counts = target != ignored
        weight = counts.to(output.dtype) if weights is None else weights[target.where(counts, 0)] * counts
        if self._by_example:
            each = F.cross_entropy(output, target, weight=weights, ignore_index=ignored, reduction="none")
            return _mean_of_means(each, weight)
        mean = F.cross_entropy(output, target, weight=weights, ignore_index=ignored)
        return BatchLoss(mean, counts.sum() if weights is None else weight.sum())

    def _weights(self, output: Tensor, axis: int) -> Tensor | None:
        if self._class_weights is None:
            return None
        if len(self._class_weights) != output.shape[axis]:
            raise SpecError(
                f"training.class_weights has {len(self._class_weights)} numbers and the model puts out "
                f"{output.shape[axis]} classes; give one for each."
            )
        return torch.tensor(self._class_weights, dtype=output.dtype, device=output.device)

    def _elementwise(self, loss: _Elementwise, output: Tensor, target: Tensor) -> BatchLoss:
        ignored = self.ignored(target)
        if ignored is None and not self._by_example:
            return BatchLoss(loss(output, target), float(target.numel()))
        counts = torch.ones_like(target, dtype=torch.bool) if ignored is None else target != ignored
        each = loss(output, target.where(counts, 0), reduction="none")
        if self._by_example:
            return _mean_of_means(each * counts, counts.to(each.dtype))
        num = counts.sum()
        return BatchLoss((each * counts).sum() / num, num)

    def _of_own(self, returned: Any, target: Tensor) -> BatchLoss:
        if isinstance(returned, (tuple, list)) and len(returned) == 2:
            total, weight = returned
            if isinstance(total, Tensor) and total.ndim == 0:
                return BatchLoss(total / weight, weight)
        if not isinstance(returned, Tensor) or returned.ndim != 0:
            kind = (
                f"a tensor of shape {tuple(returned.shape)}"
                if isinstance(returned, Tensor)
                else type(returned).__name__
            )
            raise SpecError(
                f"training.loss = {self.name!r} returned {kind}; return a scalar tensor, such as the batch's mean, or "
                "(sum, weight), which says what it is the mean over."
            )
        if not target.ndim:
            return BatchLoss(returned, 1.0)
        ignored, labelled = self.ignored(target), self.labelled(target)
        if ignored is None or labelled is None:
            return BatchLoss(returned, float(target.shape[0]))
        return BatchLoss(returned, (labelled if self._by_example else target.ne(ignored)).sum())


def _mean_of_means(each: Tensor, weight: Tensor) -> BatchLoss:
    """The mean over examples of each example's own weighted mean; ``each`` is weighted and 0 where nothing counts."""
    weights = weight.flatten(1).sum(1) if weight.ndim > 1 else weight
    sums = each.flatten(1).sum(1) if each.ndim > 1 else each
    counts = weights > 0
    means = sums / weights.where(counts, torch.ones_like(weights))
    num = counts.sum()
    return BatchLoss((means * counts).sum() / num, num)


def mean_of(losses: list[tuple[Tensor, Tensor | float]]) -> float | None:
    """The loss of several batches, reckoned in float64; None where nothing counted in any of them."""
    if not losses:
        return None
    means = torch.stack([mean.detach() for mean, _ in losses]).double().cpu()
    weights = torch.stack([torch.as_tensor(weight, dtype=torch.float64).cpu() for _, weight in losses])
    counted = weights > 0
    total = float(weights[counted].sum())
    return float((means[counted] * weights[counted]).sum()) / total if total else None


def _hint(loss: str) -> str:
    nearest = difflib.get_close_matches(loss, BUILT_IN, n=1)
    return (
        f"did you mean {nearest[0]!r}?" if nearest else f"use one of {', '.join(BUILT_IN)}, or 'package.module:loss'."
    )
