"""The method ``distillation``: devices send what their model says of a public set, instead of its parameters.

Soft labels, class probabilities at temperature T, have the size of the public set times the classes, whatever the size
of the model; and since no parameters travel, every device may have an architecture of its own. In a task a device lets
its own model learn from the student (the base version) on the public set, trains it on its private labels, and sends
its soft labels. Li and Wang, "FedMD", 2019, arXiv 1910.03581; Lin et al., "Ensemble Distillation for Robust Model
Fusion", NeurIPS 2020, arXiv 2006.07242. The strategy ``distillation`` makes the student from them.

The device's own model stays on the device, from task to task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import Dataset

from fl_core import factory as factories
from fl_core.errors import DataError
from fl_core.spec import Arguments, ImportPath, Section, TrainingSection, parse_section
from fl_core.training.batches import count_examples, floating_dtype, iterate, split_order
from fl_core.training.device import seeded
from fl_core.training.forward import apply
from fl_core.training.local_optimizer import LocalOptimizer
from fl_core.training.method import DeviceTask, Method, Outcome, read_method_args
from fl_core.training.methods.distill import soft_cross_entropy
from fl_core.vectors import FloatArray, Parameters
from fl_core.vectors.layout import Layout

_CHUNK = 1024


class DistillationArgs(Section):
    """``[training.method_args]`` of ``distillation``; the strategy of that name reads the same.

    Attributes:
        public_data, public_args: factory of the public set, the same examples on every machine; its labels are not
            looked at.
        num_classes: what every model puts out.
        temperature: T of all soft labels.
        local_steps_public: steps in which a device's model learns from the student on the public set; 0 leaves it out.
        student_epochs, student_learning_rate, student_batch_size: how the coordinator trains the student at each merge.
        memory: share of the earlier soft labels that a merge keeps, in [0, 1).
    """

    public_data: ImportPath
    public_args: Arguments = Field(default_factory=dict)
    num_classes: int = Field(ge=2, le=100_000)
    temperature: float = Field(default=2.0, gt=0)
    local_steps_public: int = Field(default=5, ge=0, le=10_000)
    student_epochs: int = Field(default=2, ge=1, le=1000)
    student_learning_rate: float = Field(default=1e-3, gt=0)
    student_batch_size: int = Field(default=64, ge=1)
    memory: float = Field(default=0.5, ge=0, lt=1)

    def public_set(self) -> Dataset[Any]:
        """The public set.

        Raises:
            SpecError: its factory is not installed, or refuses its arguments.
            DataError: it is empty.
        """
        dataset: Dataset[Any] = factories.call(self.public_data, self.public_args, "training.method_args.public_data")
        count_examples(dataset)
        return dataset


class Distillation(Method):
    """Sends float32 ``(num_public * num_classes,)``: probabilities, example by example.

    Args:
        public_data, num_classes, public_args, temperature, local_steps_public: as of ``DistillationArgs``.

    Raises:
        SpecError: a setting is not accepted.
    """

    sends = ("soft_labels",)

    def __init__(
        self,
        *,
        public_data: str,
        num_classes: int,
        public_args: Mapping[str, Any] | None = None,
        temperature: float = 2.0,
        local_steps_public: int = 5,
    ) -> None:
        settings = {
            "public_data": public_data, "num_classes": num_classes, "public_args": dict(public_args or {}),
            "temperature": temperature, "local_steps_public": local_steps_public,
        }  # fmt: skip
        self._args = parse_section(DistillationArgs, settings, "Distillation")

    @classmethod
    def from_settings(cls, settings: TrainingSection) -> Self:
        """With what ``training.method_args`` says of devices; the rest is the strategy's."""
        args = read_method_args(settings, DistillationArgs)
        return cls(
            public_data=args.public_data,
            num_classes=args.num_classes,
            public_args=args.public_args,
            temperature=args.temperature,
            local_steps_public=args.local_steps_public,
        )

    def train(self, task: DeviceTask) -> Outcome:
        """Learn from the student, train on the private data, say what comes of it."""
        args, public = self._args, self._args.public_set()
        # Without an architecture of its own a device trains a copy of the student's.
        model = task.model if task.own_model is None else task.own_model().to(task.device)
        own = Layout.of(model)
        teacher = None
        if task.version and args.local_steps_public:  # version 0 has learnt nothing yet
            teacher = predict(task.model, public, task.device, args.num_classes, args.temperature)
        kept = task.memory.get(f"model.{own.digest}")
        if kept is not None:
            own.load_into(model, Parameters(kept))
        if teacher is not None:
            self._learn_from(task, model, public, teacher)
        training = task.train(model=model)
        task.memory[f"model.{own.digest}"] = own.flatten(model).values
        labels = predict(model, public, task.device, args.num_classes, args.temperature)
        return Outcome(values=labels.exp().reshape(-1).numpy(), training=training)

    def _learn_from(self, task: DeviceTask, model: nn.Module, public: Dataset[Any], teacher: Tensor) -> None:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = LocalOptimizer(parameters, task.settings)
        order = np.random.default_rng(task.seed).permutation(count_examples(public))
        batches = split_order(torch.from_numpy(order), task.settings.batch_size, join_single=True)
        chosen = [batches[step % len(batches)] for step in range(self._args.local_steps_public)]
        model.train()
        stream = iterate(public, chosen, task.device, floating_dtype(model))
        with seeded(task.seed, task.device):
            for indices, (inputs, _) in zip(chosen, stream, strict=True):
                wanted = teacher[indices].to(task.device)
                logits = _logits(model, inputs, self._args.num_classes)
                soft_cross_entropy(logits, wanted, self._args.temperature).backward()  # type: ignore[no-untyped-call]
                optimizer.step()


def predict(
    model: nn.Module, dataset: Dataset[Any], device: torch.device, num_classes: int, temperature: float
) -> Tensor:
    """Log-probabilities of a model at a temperature: float32 ``(num_examples, num_classes)``, on the CPU.

    Raises:
        DataError: the model puts out another number of classes.
    """
    model.eval()
    batches = split_order(torch.arange(count_examples(dataset)), _CHUNK)
    rows = []
    with torch.no_grad():  # not inference_mode: the model is trained afterwards
        for inputs, _ in iterate(dataset, batches, device, floating_dtype(model)):
            output = _logits(model, inputs, num_classes)
            rows.append(F.log_softmax(output.float() / temperature, dim=-1).cpu())
    return torch.cat(rows)


def _logits(model: nn.Module, inputs: Any, num_classes: int) -> Tensor:
    output = apply(model, inputs)
    if output.ndim != 2 or output.shape[1] != num_classes:
        raise DataError(
            f"{type(model).__name__} puts out {list(output.shape[1:])} per example and "
            f"training.method_args.num_classes is {num_classes}; all models must have the same classes."
        )
    return output


def as_distributions(values: FloatArray, num_classes: int) -> FloatArray:
    """Soft labels from an untrusted sender as distributions: float32 ``(num_examples, num_classes)``, a new array.

    What lies outside [0, 1] is clipped and each row divided by its sum, so that one device's word never weighs more
    than another's; a row of nothing becomes uniform.

    Args:
        values: finite, float32 ``(num_examples * num_classes,)``.

    >>> as_distributions(np.array([0.5, 0.5, -3.0, 1e9, 0.0, -1.0], np.float32), 2).tolist()
    [[0.5, 0.5], [0.0, 1.0], [0.5, 0.5]]
    """
    matrix: FloatArray = np.clip(values, 0.0, 1.0).reshape(-1, num_classes)
    totals = matrix.sum(axis=1, keepdims=True)
    matrix[totals[:, 0] < 1e-6] = 1.0
    matrix /= matrix.sum(axis=1, keepdims=True)
    return matrix
