"""What one device's training is, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fl_core.spec import TrainingSection
from fl_core.training.batches import split_order
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
        per_epoch = -(-number // settings.batch_size)
        num_steps, _ = work_of(settings, number)
        batches: list[Tensor] = []
        while len(batches) < num_steps:
            batches += split_order(torch.randperm(number, generator=generator), settings.batch_size)
        del batches[num_steps:]
        rates = [settings.learning_rate * step_factor(settings, step, num_steps) for step in range(num_steps)]
        order = nn.utils.rnn.pad_sequence(batches, batch_first=True)
        return cls(order, torch.tensor([len(batch) for batch in batches]), torch.tensor(rates), per_epoch)
