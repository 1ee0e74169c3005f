"""A training method: the device takes several short runs from the base version and sends their mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from fedtide import DeviceTask, Outcome, Section, TrainingSection, read_method_args


class SeveralRunsArgs(Section):
    """``[training.method_args]``."""

    num_runs: int = Field(default=2, ge=1, le=10)


class SeveralRuns:
    """The mean delta of ``num_runs`` local trainings that differ in the order of the examples."""

    sends = ("delta",)

    def __init__(self, settings: TrainingSection) -> None:
        self._args = read_method_args(settings, SeveralRunsArgs)

    def train(self, task: DeviceTask) -> Outcome:
        """Each run starts from the base version."""
        total = np.zeros_like(task.base.values)
        for number in range(self._args.num_runs):
            task.layout.load_into(task.model, task.base)
            training = replace(task, seed=task.seed + number).train()
            total += task.layout.flatten(task.model).values - task.base.values
        return Outcome(values=total / np.float32(self._args.num_runs), training=training)
