"""A training method: the device takes several short runs from the base version and sends their mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedtide import DeviceTask, Method, Outcome


class SeveralRuns(Method):
    """The mean delta of ``num_runs`` local trainings that differ in the order of the examples.

    Args:
        num_runs: ``[training.method_args]``.
    """

    def __init__(self, num_runs: int = 2) -> None:
        if num_runs < 1:
            raise ValueError(f"num_runs = {num_runs}; give 1 or more")
        self._num_runs = num_runs

    def train(self, task: DeviceTask) -> Outcome:
        """Each run starts from the base version."""
        total = np.zeros_like(task.base.values)
        for number in range(self._num_runs):
            task.layout.load_into(task.model, task.base)
            training = replace(task, seed=task.seed + number).train()
            total += task.layout.flatten(task.model).values - task.base.values
        return Outcome(values=total / np.float32(self._num_runs), training=training)
