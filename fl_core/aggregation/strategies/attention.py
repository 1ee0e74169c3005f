"""Attention over the buffer: which update counts how much follows from how much data, how good and how fresh it is.

The softmax is that of Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and
Translate", ICLR 2015, arXiv 1409.0473. The scores are not learned: they are what a coordinator knows of an update.
"""

from __future__ import annotations

import math
from typing import Self

from pydantic import Field

from fl_core.aggregation.buffered import BufferedStrategy, buffer_settings
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.optimizer.rules import SGD, ServerRule
from fl_core.aggregation.softmax_buffer import SoftmaxBuffer
from fl_core.aggregation.staleness import StalenessWeight, polynomial
from fl_core.aggregation.strategy import Merge
from fl_core.spec import CampaignSpec, Section, parse_section, read_args
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout


class AttentionArgs(Section):
    """``[aggregation.args]``: how much each of the three says, and how sharply."""

    data_weight: float = Field(default=1.0, ge=0)
    quality_weight: float = Field(default=1.0, ge=0)
    staleness_weight: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    max_loss: float = Field(default=10.0, gt=0)


class Attention(BufferedStrategy):
    """x <- x + η_g · Σ α_i Δ_i with α = softmax(s / T) over the buffer of K and

        s_i = a log n_i - b loss_i + c log s(τ_i)

    with a, b, c = ``data_weight``, ``quality_weight``, ``staleness_weight``. At T = 1 an update weighs
    n_i^a · exp(-b loss_i) · s(τ_i)^c: with (1, 0, 0) this is the mean by examples, with (0, 0, 0) the plain mean. The
    α_i sum to 1, so other than in FedBuff a buffer of stale updates makes a full step. Fewer than K, in a flush, take
    the part of a step that they are of a full buffer.

    The loss is ``metrics["loss"]``, the mean training loss that the device reports. It is the device's word: it counts
    as 0 when it is below, and as ``max_loss`` when it is above or missing, so what a liar can gain has a bound.

    Args:
        layout, initial: as of ``Strategy``.
        buffer_size: K.
        staleness: s(τ).
        optimizer: how the parameters follow the mean.
        data_weight, quality_weight, staleness_weight: a, b and c.
        temperature: T.
        max_loss: the loss of a device that reports a larger one, or none.

    Raises:
        SpecError: a setting lies outside of its range.
    """

    name = "attention"
    _buffer: SoftmaxBuffer

    def __init__(
        self,
        layout: Layout,
        initial: Parameters,
        *,
        buffer_size: int = 10,
        staleness: StalenessWeight = polynomial(0.5),
        optimizer: ServerRule = SGD(1.0),
        data_weight: float = 1.0,
        quality_weight: float = 1.0,
        staleness_weight: float = 1.0,
        temperature: float = 1.0,
        max_loss: float = 10.0,
    ) -> None:
        settings = {
            "data_weight": data_weight, "quality_weight": quality_weight, "staleness_weight": staleness_weight,
            "temperature": temperature, "max_loss": max_loss,
        }  # fmt: skip
        self._args = parse_section(AttentionArgs, settings, "Attention")
        buffer = SoftmaxBuffer(layout.num_elements, [slice(0, layout.num_elements)], self._args.temperature)
        super().__init__(layout, initial, buffer, buffer_size=buffer_size, optimizer=optimizer)
        self._staleness_weight = staleness

    @classmethod
    def from_spec(cls, spec: CampaignSpec, layout: Layout, initial: Parameters) -> Self:
        """With what the spec says of buffer, staleness, optimizer and the scores."""
        return cls(
            layout,
            initial,
            **buffer_settings(spec),
            **dict(read_args(spec, AttentionArgs)),
        )

    def score(self, contribution: Contribution) -> float:
        """s_i."""
        args = self._args
        loss = min(max(contribution.metrics.get("loss", args.max_loss), 0.0), args.max_loss)
        return (
            args.data_weight * math.log(contribution.num_examples)
            - args.quality_weight * loss
            + args.staleness_weight * math.log(self._staleness_weight(contribution.staleness))
        )

    def offer(self, contribution: Contribution) -> Merge | None:
        """Add Δ_i with its score; the K-th merges.

        Raises:
            InvariantError: the contribution is not a delta.
        """
        self._buffer.add(contribution.delta, [self.score(contribution)], factor=1.0, staleness=contribution.staleness)
        return self._merge_if_full()

    def mean(self, share: float) -> Delta:
        return self._buffer.mean(self._buffer.count / self._buffer_size)
