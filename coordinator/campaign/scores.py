"""What evaluations have said of a campaign so far."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Scores:
    """The newest and the best; ``seconds_to`` maps ``"0.90"`` to the time when it was first reached."""

    version: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    best_loss: float | None = None
    best_accuracy: float | None = None
    seconds_to: dict[str, float] = field(default_factory=dict)

    def note(self, version: int, loss: float | None, accuracy: float | None, seconds: float) -> bool:
        """Take an evaluation in; whether its loss is the best so far."""
        self.version, self.loss, self.accuracy = version, loss, accuracy
        if accuracy is not None:
            if self.best_accuracy is None or accuracy > self.best_accuracy:
                self.best_accuracy = accuracy
            for percent in range(1, int(accuracy * 100 + 1e-9) + 1):
                self.seconds_to.setdefault(f"{percent / 100:.2f}", seconds)
        if loss is None or (self.best_loss is not None and loss >= self.best_loss):
            return False
        self.best_loss = loss
        return True
