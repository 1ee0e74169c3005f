"""Scores of a model on held-out data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from fl_core.training.batches import count_examples, floating_dtype, iterate, split_order
from fl_core.training.forward import apply
from fl_core.training.losses import resolve_loss
from fl_core.user_code import each, running

_IGNORED = -100  # torch's mark for targets that cross-entropy leaves out


@dataclass(frozen=True, slots=True)
class Scores:
    """How good a version is.

    Attributes:
        loss: mean over the examples; it may be infinite or NaN.
        accuracy: share of targets predicted rightly, in [0, 1]; None where targets are not classes.
        num_examples: how many examples were scored.
    """

    loss: float
    accuracy: float | None
    num_examples: int


def evaluate(
    model: nn.Module,
    dataset: Dataset[Any],
    loss: str,
    batch_size: int,
    device: torch.device,
    *,
    factory: str = "",
    data: tuple[str, str] = ("data", ""),
) -> Scores:
    """Score ``model`` on all of ``dataset``, in evaluation mode; each module's mode is put back after.

    Accuracy compares integer targets with the largest output over the class dimension: the last of ``(batch, classes)``
    and ``(batch, length, classes)``, or torch's second one where the shape says so. Integer targets without a class
    dimension, and any targets of ``bce_with_logits``, are binary: a logit above 0 says 1. Targets of -100 do not count.

    Args:
        model: moved to ``device``.
        dataset: map-style; pairs (input, target), see ``fl_core/training/batches.py``.
        loss: a name or an import path, as in ``training.loss``.
        batch_size: examples at a time.
        device: where to compute.
        factory: the model's, for the sentence when it raises; its class where nothing is said.
        data: key and import path of the dataset, for the same.

    Raises:
        DataError: the dataset is empty, not map-style, or its examples are not pairs.
        SpecError: there is no such loss.
        UserCodeError: model, dataset or loss raised.
    """
    factory, (data_key, data_path) = factory or _class_path(model), data
    num_examples = count_examples(dataset)
    loss_function = resolve_loss(loss)
    modes = {module: module.training for module in model.modules()}
    model.to(device).eval()
    total_loss = 0.0
    num_right = num_targets = 0
    try:
        with torch.inference_mode():
            batches = split_order(torch.arange(num_examples), batch_size)
            examples = iterate(dataset, batches, device, floating_dtype(model))
            examples = each(data_key, data_path or _class_path(dataset), "reading a batch", examples)
            for indices, (inputs, target) in zip(batches, examples, strict=True):
                with running("model.factory", factory, "the forward pass"):
                    output = apply(model, inputs)
                with running("training.loss", loss, "loss(output, target)"):
                    total_loss += float(loss_function(output, target)) * len(indices)
                right = _right(output, target, loss)
                if right is not None:
                    num_right += int(right.sum())
                    num_targets += right.numel()
    finally:
        for module, mode in modes.items():
            module.training = mode
    accuracy = num_right / num_targets if num_targets else None
    return Scores(loss=total_loss / num_examples, accuracy=accuracy, num_examples=num_examples)


def _class_path(made: object) -> str:
    return f"{type(made).__module__}:{type(made).__qualname__}"


def _right(output: Tensor, target: Tensor, loss: str) -> Tensor | None:
    """Which targets were predicted rightly, as a flat mask; None where targets are not classes."""
    if loss in ("mse", "l1"):
        return None
    are_classes = not target.is_floating_point()
    if output.shape[:-1] == target.shape and output.ndim > 1 and output.shape[-1] > 1 and are_classes:
        predicted = output.argmax(dim=-1)
    elif output.ndim == target.ndim + 1 and output.shape[1] > 1 and are_classes:
        predicted = output.argmax(dim=1)
    elif output.numel() == target.numel() and (are_classes or loss == "bce_with_logits"):
        return (output.reshape(-1) > 0) == (target.reshape(-1) > 0.5)
    else:
        return None
    counted = target != _IGNORED
    return (predicted == target)[counted]
