"""Scores of a model on held-out data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from fl_core.metrics.scorers import Scorers
from fl_core.spec import MetricSection, TrainingSection
from fl_core.training.batches import count_examples, floating_dtype, iterate, split_order
from fl_core.training.forward import apply
from fl_core.training.losses import Loss
from fl_core.user_code import each, running


@dataclass(frozen=True, slots=True)
class Scores:
    """How good a version is.

    Attributes:
        loss: over all targets that count, as ``fl_core/training/losses.py`` says; it may be infinite or NaN. None where
            no target counts.
        metrics: by name; None where a number cannot be had (``fl_core/metrics/scorers.py``).
        num_examples: how many examples there were.
    """

    loss: float | None
    metrics: dict[str, float | None] = field(default_factory=dict)
    num_examples: int = 0

    @property
    def accuracy(self) -> float | None:
        """Share of targets predicted rightly, in [0, 1]; None where targets are not classes, or nobody asked for it."""
        return self.metrics.get("accuracy")


def evaluate(
    model: nn.Module,
    dataset: Dataset[Any],
    training: TrainingSection,
    batch_size: int,
    device: torch.device,
    *,
    metrics: Sequence[MetricSection] | None = None,
    factory: str = "",
    data: tuple[str, str] = ("data", ""),
) -> Scores:
    """Score ``model`` on all of ``dataset``, in evaluation mode; each module's mode is put back after.

    Loss and metrics are those of all targets at once, whatever ``batch_size`` is.

    Args:
        model: moved to ``device``.
        dataset: map-style; see ``fl_core/training/forward.py`` for what its examples may be.
        training: says what the loss is, and what the targets are.
        batch_size: examples at a time.
        device: where to compute.
        metrics: ``CampaignSpec.metrics``; None for accuracy where the targets are classes.
        factory: the model's, for the sentence when it raises; its class where nothing is said.
        data: key and import path of the dataset, for the same.

    Raises:
        DataError: the dataset is empty or not map-style, or its targets do not fit the model's outputs.
        SpecError: there is no such loss or metric, or it does not go with the targets.
        UserCodeError: model, dataset, loss or metric raised.
    """
    factory, (data_key, data_path) = factory or _class_path(model), data
    num_examples = count_examples(dataset)
    loss_function = Loss(training)
    scorers = Scorers(metrics, loss_function, device)
    modes = {module: module.training for module in model.modules()}
    model.to(device).eval()
    total, weight = 0.0, 0.0
    try:
        # Not inference_mode: what a module keeps of its first pass, such as a mask, has to be good for training too.
        with torch.no_grad():
            batches = split_order(torch.arange(num_examples), batch_size)
            examples = iterate(dataset, batches, device, floating_dtype(model))
            for inputs, target in each(data_key, data_path or _class_path(dataset), "reading a batch", examples):
                with running("model.factory", factory, "the forward pass"):
                    output = apply(model, inputs)
                with running("training.loss", training.loss, "loss(output, target)"):
                    mean, share = loss_function(output, target)
                if (counts := float(share)) > 0:
                    total += float(mean) * counts
                    weight += counts
                scorers.update(output, target)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return Scores(total / weight if weight else None, scorers.compute(), num_examples)


def _class_path(made: object) -> str:
    return f"{type(made).__module__}:{type(made).__qualname__}"
