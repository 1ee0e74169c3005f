"""Distillation: a model learns what another one says, not only what the labels say.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531, section 2. Against the
global model as the teacher it keeps a device from forgetting the classes that it has not got, as in FedGKD (Yao et al.
2021, arXiv 2107.00051).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fl_core.errors import SpecError
from fl_core.spec import TrainingSection
from fl_core.training.forward import apply
from fl_core.training.targets import class_axis, class_targets


def soft_cross_entropy(logits: Tensor, teacher_log_probabilities: Tensor, temperature: float) -> Tensor:
    """T² · KL(p_teacher ‖ softmax(logits / T)), the mean over examples.

    T² keeps the gradient's size when T changes.

    Args:
        logits: ``(..., classes)``.
        teacher_log_probabilities: the same shape, already softened at T.
        temperature: T, above 0.
    """
    student = F.log_softmax(logits / temperature, dim=-1)
    divergence = F.kl_div(student.flatten(0, -2), teacher_log_probabilities.flatten(0, -2), log_target=True,
                          reduction="batchmean")  # fmt: skip
    return divergence * temperature**2


class Teacher:
    """A frozen copy of a model as it is now, and the weight of its word.

    Args:
        model: with classes in its output, where ``training.class_dim`` or the shapes say.
        settings: ``distillation_weight``, ``distillation_temperature`` and ``class_dim``.
    """

    def __init__(self, model: nn.Module, settings: TrainingSection) -> None:
        self._model = copy.deepcopy(model).eval().requires_grad_(False)
        self._weight = settings.distillation_weight
        self._temperature = settings.distillation_temperature
        self._class_dim = settings.class_dim

    def loss(self, inputs: Any, output: Tensor, target: Tensor) -> Tensor:
        """The weighted term for one batch.

        Raises:
            SpecError: the output has no classes to compare, or it is open where they are.
        """
        axis = -1
        if output.ndim > 2:
            axis = self._class_dim or class_axis(output, class_targets(output, target), None)
        if output.ndim < 2 or output.shape[axis] < 2:
            raise SpecError(
                f"training.distillation_weight = {self._weight} needs an output of (batch, classes); this model gives "
                f"{tuple(output.shape)}: remove it."
            )
        with torch.no_grad():
            taught = apply(self._model, inputs).movedim(axis, -1)
            teacher = F.log_softmax(taught / self._temperature, dim=-1)
        return self._weight * soft_cross_entropy(output.movedim(axis, -1), teacher, self._temperature)
