"""An admitted update, ready to be weighed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fl_core.codecs.model_payload import ModelState
from fl_core.errors import InvariantError
from fl_core.vectors import Delta, Parameters, SoftLabels


@dataclass(frozen=True, slots=True)
class Contribution:
    """One update, as a strategy sees it. Admission has checked layout, size, finiteness and staleness bound.

    Attributes:
        values: of shape ``(num_parameters,)``; a strategy only reads it, and keeps no reference after ``offer``. It may
            still be encoded: ``values.vector`` with the functions of ``blocks`` is decoded as it is merged, while
            ``values.values`` takes memory of the model's size.
        num_examples: how many examples it was trained on, from 1.
        staleness: τ in versions, read before the merge raises the version.
        worker: the name of the worker that sent it.
        metrics: what the device measured, all finite: ``loss``, its mean training loss, and whatever its method adds.
        part: which part of the model ``values`` is, from 1 (``fl_core.vectors.model_parts``); 0 is the whole.
        state: the values of the buffers that devices send; None where a model has none.

    Raises:
        InvariantError: ``num_examples`` is below 1 or ``staleness`` below 0.
    """

    values: Delta | Parameters | SoftLabels
    num_examples: int = 1
    staleness: int = 0
    worker: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    part: int = 0
    state: ModelState | None = None

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

    @property
    def soft_labels(self) -> SoftLabels:
        """The values as soft labels.

        Raises:
            InvariantError: they are something of a model.
        """
        if not isinstance(self.values, SoftLabels):
            raise InvariantError(f"{self.worker!r} sent {type(self.values).__name__}; this strategy wants soft labels.")
        return self.values
