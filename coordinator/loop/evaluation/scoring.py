"""Scoring for the loop: by a separate process (``evaluator.py``), or in a simulation the program itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fl_core.broker.bulk.head import Head


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One version's scores; a number that cannot be had is None."""

    version: int
    loss: float
    metrics: dict[str, float | None]
    num_examples: int


class Scoring(Protocol):
    """What the loop asks of an evaluator."""

    @property
    def busy(self) -> bool:
        """A request is under way."""
        ...

    @property
    def has_results(self) -> bool:
        """Something has come of it that waits to be taken."""
        ...

    @property
    def error(self) -> str | None:
        """Why there will be no more scores, in one sentence; None while all is well."""
        ...

    @property
    def died(self) -> bool:
        """The reason is that a process died or hung again and again; otherwise code that the spec names raised."""
        ...

    def request(self, head: Head | None = None) -> None:
        """Ask for the scores of a version that was published, or if it is gone, or None, of the newest."""
        ...

    def take_results(self) -> list[Evaluation]:
        """The evaluations that were finished since the last call."""
        ...
