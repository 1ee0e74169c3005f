"""The method ``local``: train from the base version on the private data, and send what came of it.

With one task it is the ClientUpdate of FedAvg (McMahan et al., AISTATS 2017, arXiv 1602.05629, algorithm 1); as a
method of meta-learning the same thing is Reptile (Nichol et al. 2018, arXiv 1803.02999, algorithm 1).
"""

from __future__ import annotations

from typing import Self

import numpy as np

from fl_core.spec import TrainingSection
from fl_core.training.method import DeviceTask, Method, NoArgs, Outcome, read_method_args
from fl_core.vectors import Sends


class LocalSGD(Method):
    """Δ = w - w_base after local training, or w itself where the strategy merges parameters."""

    sends: tuple[Sends, ...] = ("delta", "parameters")

    @classmethod
    def from_settings(cls, settings: TrainingSection) -> Self:
        """There are no settings beside those of ``[training]``.

        Raises:
            SpecError: ``method_args`` has some.
        """
        read_method_args(settings, NoArgs)
        return cls()

    def train(self, task: DeviceTask) -> Outcome:
        """Train all parameters."""
        training = task.train()
        values = task.layout.weights_of(task.model, task.spare)
        if task.sends == "delta":
            np.subtract(values, task.base.values[task.layout.trainable], out=values)
        return Outcome(values=values, training=training)
