"""The scores of a campaign's evaluations so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Scores:
    """The newest and the best; ``seconds_to`` maps ``"0.90"`` to the time when that accuracy was first reached.

    Attributes:
        metrics: the newest of each; None where a number cannot be had.
        best: the best of each that ever had one.
    """

    version: int | None = None
    loss: float | None = None
    best_loss: float | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    seconds_to: dict[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float | None:
        """The newest; None where there is none."""
        return self.metrics.get("accuracy")

    @property
    def best_accuracy(self) -> float | None:
        """The best; None where there is none."""
        return self.best.get("accuracy")

    def note(
        self,
        version: int,
        loss: float | None,
        metrics: Mapping[str, float | None],
        seconds: float,
        is_higher_better: Callable[[str], bool] = lambda name: True,
    ) -> bool:
        """Take an evaluation in; whether its loss is the best so far."""
        self.version, self.loss, self.metrics = version, loss, dict(metrics)
        for name, value in metrics.items():
            if value is not None:
                best = self.best.get(name, value)
                self.best[name] = max(value, best) if is_higher_better(name) else min(value, best)
        for percent in range(1, int((self.accuracy or 0.0) * 100 + 1e-9) + 1):
            self.seconds_to.setdefault(f"{percent / 100:.2f}", seconds)
        if loss is None or (self.best_loss is not None and loss >= self.best_loss):
            return False
        self.best_loss = loss
        return True

    def export(self) -> dict[str, Any]:
        """All state, as plain values."""
        return {
            "version": self.version,
            "loss": self.loss,
            "best_loss": self.best_loss,
            "metrics": dict(self.metrics),
            "best": dict(self.best),
            "seconds_to": dict(self.seconds_to),
        }

    @classmethod
    def restore(cls, meta: Mapping[str, Any]) -> Scores:
        """The inverse of ``export``; an earlier release's state has accuracy alone."""
        meta = dict(meta)
        accuracy, best = meta.pop("accuracy", None), meta.pop("best_accuracy", None)
        if "metrics" not in meta:
            meta["metrics"] = {"accuracy": accuracy}
            meta["best"] = {} if best is None else {"accuracy": best}
        return cls(**meta)
