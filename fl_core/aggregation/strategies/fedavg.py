"""FedAvg: a cohort of devices trains from the same version, and their mean delta makes the next.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
arXiv 1602.05629, algorithm 1, in the form of Reddi et al. 2021 (arXiv 2003.00295) with a server optimizer.
"""

from __future__ import annotations

from typing import Self

from fl_core.aggregation.buffer import Buffer
from fl_core.aggregation.buffered import BufferedStrategy
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.optimizer.rules import SGD, ServerRule, server_rule
from fl_core.aggregation.strategy import Merge
from fl_core.errors import InvariantError
from fl_core.spec import CampaignSpec
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout


class FedAvg(BufferedStrategy):
    """x <- x + η_g · Σ n_i Δ_i / Σ n_i over the cohort, where the server optimizer is SGD with rate η_g.

    With η_g = 1 this is the paper's mean of the local parameters. It always weights by examples, and has a barrier:
    every delta of a cohort is measured against the current version, so any staleness but 0 is a bug. A flush with a
    ``share`` below 1 shortens the step by as much.

    Args:
        layout, initial: as of ``Strategy``.
        optimizer: how the parameters follow the mean delta.

    >>> import numpy as np
    >>> from fl_core.vectors.tensor_spec import TensorSpec
    >>> from fl_core.vectors import Delta
    >>> strategy = FedAvg(Layout((TensorSpec("w", (1,)),)), Parameters(np.zeros(1, np.float32)))
    >>> for value, num_examples in ((1.0, 30), (5.0, 10)):
    ...     strategy.offer(Contribution(Delta(np.array([value], np.float32)), num_examples, 0, "w"))
    >>> strategy.flush()
    Merge(version=1, num_updates=2, staleness=(0, 0), weights=(30.0, 10.0))
    >>> strategy.parameters.values.tolist()
    [2.0]
    """

    name = "fedavg"
    barrier = True
    _buffer: Buffer

    def __init__(self, layout: Layout, initial: Parameters, *, optimizer: ServerRule = SGD(1.0)) -> None:
        # A cohort's end makes a version, and no number of updates does: nothing here asks whether the buffer is full.
        super().__init__(layout, initial, Buffer(layout.num_elements), buffer_size=1, optimizer=optimizer)

    @classmethod
    def from_spec(cls, spec: CampaignSpec, layout: Layout, initial: Parameters) -> Self:
        """With the spec's ``[server_optimizer]``."""
        return cls(layout, initial, optimizer=server_rule(spec.server_optimizer))

    def offer(self, contribution: Contribution) -> Merge | None:
        """Add n_i Δ_i; never merges, the end of the cohort does.

        Raises:
            InvariantError: the contribution is stale, or is not a delta.
        """
        if contribution.staleness != 0:
            raise InvariantError(
                f"FedAvg was offered an update of {contribution.worker!r} with staleness {contribution.staleness}."
            )
        self._buffer.add(
            contribution.delta,
            weight=float(contribution.num_examples),
            num_examples=contribution.num_examples,
            staleness=0,
        )
        return None

    def mean(self, share: float) -> Delta:
        return self._buffer.mean(self._buffer.example_total / share)
