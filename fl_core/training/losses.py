"""The losses that a spec may name. Each maps (output, target) to a scalar: the mean over the batch."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor

from fl_core.errors import DataError, SpecError
from fl_core.factory import resolve

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Softmax cross-entropy of logits with classes; targets of -100 are left out.

    Args:
        output: ``(batch, classes)``, or ``(batch, length, classes)`` for sequences. torch's own order,
            ``(batch, classes, length, ...)``, is understood where it cannot be mistaken for the former.
        target: int64 of ``output``'s shape without the classes; or float of ``output``'s shape, as probabilities.
    """
    if target.ndim > 1 and output.shape[:-1] == target.shape:
        output, target = output.flatten(0, -2), target.flatten()
    return F.cross_entropy(output, target)


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error; output ``(batch, 1)`` fits a target of ``(batch,)``."""
    return F.mse_loss(*_same_shape("mse", output, target))


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error; output ``(batch, 1)`` fits a target of ``(batch,)``."""
    return F.l1_loss(*_same_shape("l1", output, target))


def bce_with_logits(output: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of logits with targets in [0, 1]; output ``(batch, 1)`` fits a target of ``(batch,)``."""
    return F.binary_cross_entropy_with_logits(*_same_shape("bce_with_logits", output, target))


_BUILT_IN: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse, "bce_with_logits": bce_with_logits, "l1": l1}


def resolve_loss(loss: str) -> Loss:
    """The function behind a loss's name, or behind the import path of a user's own.

    Raises:
        SpecError: there is no such loss.
    """
    if ":" in loss:
        return resolve(loss, "training.loss")
    try:
        return _BUILT_IN[loss]
    except KeyError:
        nearest = difflib.get_close_matches(loss, _BUILT_IN, n=1)
        hint = (
            f"did you mean {nearest[0]!r}?"
            if nearest
            else f"use one of {', '.join(_BUILT_IN)}, or 'package.module:loss'."
        )
        raise SpecError(f"training.loss = {loss!r} is not known; {hint}") from None


def _same_shape(name: str, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    # torch would broadcast (n, 1) against (n,) to (n, n): a loss that falls, of a model that learns nothing.
    if output.shape == (*target.shape, 1):
        output = output.squeeze(-1)
    elif target.shape == (*output.shape, 1):
        target = target.squeeze(-1)
    if output.shape != target.shape:
        raise DataError(
            f"training.loss = {name!r}: the model's output has shape {tuple(output.shape)} and the target "
            f"{tuple(target.shape)}; they must be equal."
        )
    return output, target.to(output.dtype)
