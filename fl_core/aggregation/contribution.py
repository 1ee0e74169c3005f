"""An admitted update, ready to be weighed."""

from __future__ import annotations

from dataclasses import dataclass

from fl_core.errors import InvariantError
from fl_core.vectors import Delta, Parameters


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a strategy needs to know of one update. Admission has checked layout, size, finiteness and staleness bound.

    Attributes:
        values: of shape ``(num_elements,)``; a strategy only reads it, and keeps no reference after ``offer``. It may
            still be encoded: ``values.vector`` with the functions of ``blocks`` is decoded as it is merged, while
            ``values.values`` takes memory of the model's size.
        num_examples: how many examples it was trained on, from 1.
        staleness: τ in versions, read before the merge raises the version.
        worker: the name of the worker that sent it.

    Raises:
        InvariantError: ``num_examples`` is below 1 or ``staleness`` below 0.
    """

    values: Delta | Parameters
    num_examples: int
    staleness: int
    worker: str

    def __post_init__(self) -> None:
        if self.num_examples < 1:
            raise InvariantError(f"An update of {self.worker!r} with num_examples = {self.num_examples} was admitted.")
        if self.staleness < 0:
            raise InvariantError(f"An update of {self.worker!r} with staleness = {self.staleness} was admitted.")

    @property
    def delta(self) -> Delta:
        """The values as a delta.

        Raises:
            InvariantError: they are parameters, which must not be added to a model.
        """
        if not isinstance(self.values, Delta):
            raise InvariantError(f"{self.worker!r} sent {type(self.values).__name__}; this strategy merges deltas.")
        return self.values

    @property
    def parameters(self) -> Parameters:
        """The values as parameters.

        Raises:
            InvariantError: they are a delta, which must not be mixed with a model.
        """
        if not isinstance(self.values, Parameters):
            raise InvariantError(f"{self.worker!r} sent {type(self.values).__name__}; this strategy merges parameters.")
        return self.values
