"""Campaigns in virtual time (``fedtide.simulate``), and the figures of them that comparisons show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

import fedtide
from fedtide import CampaignSpec, SimulatedDevice


class Result:
    """What a simulated campaign came to.

    Args:
        run: the campaign's, as ``fedtide.simulate`` returns it.

    Attributes:
        curve: (virtual seconds, updates merged, version, loss, accuracy) of each evaluation.
        staleness: of every merged update.
        merged_by: updates merged, by device.
        device_scores: what devices last said of themselves.
    """

    def __init__(self, run: fedtide.Run) -> None:
        self._run = run
        rows = run.history()
        self.curve = [
            (row["seconds"], row["merged"], row["version"], _number(row["loss"]), _number(row["accuracy"]))
            for row in rows
            if row["kind"] == "evaluation"
        ]
        merges = [row for row in rows if row["kind"] == "merge"]
        self.staleness: list[int] = [staleness for row in merges for staleness in row["staleness"]]
        self.merged_by: Counter[str] = Counter(worker for row in merges for worker in row["workers"])
        self.device_scores: dict[str, dict[str, float]] = run.summary.get("device_scores", {})

    @cached_property
    def model(self) -> nn.Module:
        """With the last version's parameters."""
        return self._run.model()

    @property
    def num_rollbacks(self) -> int:
        """How often the guard went back."""
        return int(self._run.summary["rollbacks"])

    @property
    def accuracy(self) -> float:
        """The mean of the last five evaluations: the level, without the last merge's luck."""
        return float(np.mean([row[4] for row in self.curve[-5:]]))

    @property
    def bytes_per_update(self) -> float:
        """Payload bytes of one update, the mean."""
        return float(self._run.summary["bytes_up"]) / max(1, len(self.staleness))

    @property
    def bytes_down_per_update(self) -> float:
        """Bytes of versions, or of patches to them, that were fetched for one update, the mean."""
        return float(self._run.summary["bytes_down"]) / max(1, len(self.staleness))

    def seconds_to(self, accuracy: float) -> float:
        """Virtual seconds until an evaluation first reached it; infinite when none did."""
        return next((row[0] for row in self.curve if row[4] >= accuracy), float("inf"))

    def updates_to(self, accuracy: float) -> float:
        """Merged updates until then."""
        return next((row[1] for row in self.curve if row[4] >= accuracy), float("inf"))


def trial(spec: CampaignSpec, devices: Sequence[SimulatedDevice], **limits: Any) -> Result:
    """Run a campaign in which every device has a task out all the time.

    Args:
        spec: the campaign's, with held-out data.
        devices: the fleet.
        limits: ``updates`` or ``seconds``, as ``fedtide.simulate`` takes them.
    """
    dispatch = spec.dispatch.model_copy(update={"concurrency": len(devices)})
    return Result(fedtide.simulate(spec.model_copy(update={"dispatch": dispatch}), devices, **limits))


def _number(score: float | None) -> float:
    return float("nan") if score is None else score
