"""FedBuff: updates wait in a buffer of K, whatever version they started from, and a full buffer makes a version.

Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation", AISTATS 2022, arXiv 2106.06639, algorithm 1.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field

from fl_core.aggregation.buffer import Buffer
from fl_core.aggregation.buffered import BufferedStrategy, buffer_settings
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.memory.participation import Participation
from fl_core.aggregation.optimizer.rules import SGD, ServerRule
from fl_core.aggregation.staleness import StalenessWeight, polynomial
from fl_core.aggregation.strategy import Merge
from fl_core.spec import CampaignSpec, Section, parse_section, read_args
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout


class FedBuffArgs(Section):
    """``[aggregation.args]``: the correction of the bias towards fast devices, off by default."""

    fairness: float = Field(default=0.0, ge=0, le=1)
    fairness_limit: float = Field(default=5.0, gt=1)
    fairness_window: int = Field(default=1000, ge=1, le=100_000)


class FedBuff(BufferedStrategy):
    """x <- x + η_g · Σ s(τ_i) Δ_i / K, where the server optimizer is SGD with rate η_g.

    The sum is divided by K as published, not by the sum of the staleness weights: a buffer of stale updates makes a
    short step. With ``example_weighting`` the mean is Σ s(τ_i) n_i Δ_i / Σ n_i, which is the paper's where all n_i are
    equal. A flush at the end merges fewer than K, and takes the part of a step that they are of a full buffer: it still
    divides by K (by K times the mean n_i with ``example_weighting``). Dividing by their number instead would give one
    last device's data the weight of K.

    With ``fairness`` each s(τ_i) is multiplied by the worker's weight of ``Participation``, which is not in the paper.

    Args:
        layout, initial: as of ``Strategy``.
        buffer_size: K.
        staleness: s(τ).
        optimizer: how the parameters follow the mean delta.
        example_weighting: weigh by n_i too.
        fairness, fairness_limit, fairness_window: of ``Participation``.

    Raises:
        SpecError: a setting lies outside of its range.

    >>> import numpy as np
    >>> from fl_core.vectors.tensor_spec import TensorSpec
    >>> from fl_core.vectors import Delta
    >>> strategy = FedBuff(Layout((TensorSpec("w", (1,)),)), Parameters(np.zeros(1, np.float32)), buffer_size=2)
    >>> strategy.offer(Contribution(Delta(np.array([1.0], np.float32)), 10, 0, "fresh"))
    >>> strategy.offer(Contribution(Delta(np.array([1.0], np.float32)), 10, 3, "stale"))
    Merge(version=1, num_updates=2, staleness=(0, 3), weights=(1.0, 0.5))
    >>> strategy.parameters.values.tolist()
    [0.75]
    """

    name = "fedbuff"
    _buffer: Buffer

    def __init__(
        self,
        layout: Layout,
        initial: Parameters,
        *,
        buffer_size: int = 10,
        staleness: StalenessWeight = polynomial(0.5),
        optimizer: ServerRule = SGD(1.0),
        example_weighting: bool = False,
        fairness: float = 0.0,
        fairness_limit: float = 5.0,
        fairness_window: int = 1000,
    ) -> None:
        settings = {"fairness": fairness, "fairness_limit": fairness_limit, "fairness_window": fairness_window}
        args = parse_section(FedBuffArgs, settings, "FedBuff")
        self._participation = Participation(args.fairness, args.fairness_limit, args.fairness_window)
        super().__init__(
            layout, initial, Buffer(layout.num_elements), buffer_size=buffer_size, optimizer=optimizer,
            participation=self._participation,
        )  # fmt: skip
        self._example_weighting = example_weighting
        self._staleness_weight = staleness

    @classmethod
    def from_spec(cls, spec: CampaignSpec, layout: Layout, initial: Parameters) -> Self:
        """With what the spec says of buffer, staleness, optimizer, examples and fairness."""
        return cls(
            layout,
            initial,
            example_weighting=spec.aggregation.example_weighting,
            **buffer_settings(spec),
            **dict(read_args(spec, FedBuffArgs)),
        )

    def offer(self, contribution: Contribution) -> Merge | None:
        """Add s(τ_i) Δ_i, or s(τ_i) n_i Δ_i; the K-th merges.

        Raises:
            InvariantError: the contribution is not a delta.
        """
        example_weight = contribution.num_examples if self._example_weighting else 1
        self._buffer.add(
            contribution.delta,
            weight=self._staleness_weight(contribution.staleness)
            * self._participation.weight(contribution.worker)
            * example_weight,
            num_examples=contribution.num_examples,
            staleness=contribution.staleness,
        )
        return self._merge_if_full()

    def mean(self, share: float) -> Delta:
        """There is no cohort, so ``share`` says nothing: K alone sets the step."""
        buffer, full = self._buffer, self._buffer_size
        return buffer.mean(buffer.example_total * full / buffer.count if self._example_weighting else full)
