"""What one device's training is, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fl_core.spec import TrainingSection
from fl_core.training.schedule import step_factor
from fl_core.training.together.examples import Examples
from fl_core.vectors import Parameters


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """One device's training.

    Attributes:
        examples: its private data.
        base: the version that it starts from, float32 ``(num_elements,)``.
        settings: of this task, schedules and pace included.
        seed: of the order of its examples.
    """

    examples: Examples
    base: Parameters
    settings: TrainingSection
    seed: int


def work_of(settings: TrainingSection, num_examples: int) -> tuple[int, int]:
    """How many steps a task of these settings takes, and how many examples they go through."""
    per_epoch = -(-num_examples // settings.batch_size)
    num_steps = settings.local_steps or settings.epochs * per_epoch
    whole, rest = divmod(num_steps, per_epoch)
    return num_steps, whole * num_examples + min(rest * settings.batch_size, num_examples)


@dataclass(frozen=True, slots=True)
class Plan:
    """An assignment's steps.

    Attributes:
        order: int64 ``(steps, batch_size)``, places among the device's examples; 0 where a batch is smaller.
        counts: int64 ``(steps,)``, the sizes of the batches.
        rates: float32 ``(steps,)``.
        per_epoch: how many steps an epoch has.
    """

    order: Tensor
    counts: Tensor
    rates: Tensor
    per_epoch: int

    @classmethod
    def of(cls, assignment: Assignment) -> Plan:
        """The same batches as ``train_locally`` draws."""
        settings, number = assignment.settings, assignment.examples.number
        generator = torch.Generator().manual_seed(assignment.seed)
        size, per_epoch = settings.batch_size, -(-number // settings.batch_size)
        num_steps, _ = work_of(settings, number)
        epochs = [torch.randperm(number, generator=generator) for _ in range(-(-num_steps // per_epoch))]
        order = torch.stack(epochs)
        if number % size:
            order = nn.functional.pad(order, (0, per_epoch * size - number))
        counts = torch.full((len(epochs), per_epoch), size)
        counts[:, -1] = number - (per_epoch - 1) * size
        rates = [settings.learning_rate * step_factor(settings, step, num_steps) for step in range(num_steps)]
        return cls(order.reshape(-1, size)[:num_steps], counts.flatten()[:num_steps], torch.tensor(rates), per_epoch)
