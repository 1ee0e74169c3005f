"""CA2FL: each worker's last update is remembered, and stands in for the worker while others fill the buffer.

Wang, Cao, Wu, Chen and Chen, "Tackling the Data Heterogeneity in Asynchronous Federated Learning with Cached Update
Calibration", ICLR 2024 (https://openreview.net/forum?id=4aywmeb97I).
"""

from __future__ import annotations

from typing import Self

from pydantic import Field

from fl_core.aggregation.buffer import Buffer
from fl_core.aggregation.buffered import BufferedStrategy
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.memory.update_cache import UpdateCache
from fl_core.aggregation.optimizer.rules import SGD, ServerRule, server_rule
from fl_core.aggregation.strategy import Merge
from fl_core.errors import SpecError
from fl_core.spec import CampaignSpec, Section, parse_section, read_args
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.arithmetic import add_scaled, divide
from fl_core.vectors.layout import Layout


class CA2FLArgs(Section):
    """``[aggregation.args]``: how many workers' updates are kept, in as many vectors of the model's size."""

    max_cached: int = Field(default=100, ge=0, le=10_000)


class CA2FL(BufferedStrategy):
    """x <- x + η_g · (h + Σ_{i in buffer} (Δ_i - h_i) / K), where the server optimizer is SGD with rate η_g.

    h_i is worker i's update before this one (0 for a newcomer) and h the mean of all h_i as they were when the buffer
    was empty. So a version is moved by all workers, and what the buffer brings is only how those in it have changed: on
    devices with different data the step no longer depends on who happened to be in the buffer. There is no staleness
    weight, as published. The paper divides h by the number of all devices; here it is the number of workers that are
    remembered, as nobody knows how many there will be. A worker that is in the buffer twice is calibrated by its own
    first update the second time. Fewer than K, in a flush, take the part of a step that they are of a full buffer.

    The memory is ``max_cached`` times the model at most, and so are the checkpoints; beyond, the worker that has not
    been heard of for longest is forgotten, and is a newcomer when it returns. With ``max_cached = 0`` this is FedBuff
    with constant weights.

    Args:
        layout, initial: as of ``Strategy``.
        buffer_size: K.
        optimizer: how the parameters follow the calibrated mean.
        max_cached: how many workers' updates are remembered.

    Raises:
        SpecError: ``max_cached`` is above 0 and below ``buffer_size``.
    """

    name = "ca2fl"
    _buffer: Buffer

    def __init__(
        self,
        layout: Layout,
        initial: Parameters,
        *,
        buffer_size: int = 10,
        optimizer: ServerRule = SGD(1.0),
        max_cached: int = 100,
    ) -> None:
        parse_section(CA2FLArgs, {"max_cached": max_cached}, "CA2FL")
        if 0 < max_cached < buffer_size:
            raise SpecError(
                f"max_cached = {max_cached} is below buffer_size = {buffer_size}, so workers in the buffer would be "
                "forgotten before a merge; raise it."
            )
        self._cache = UpdateCache(max_cached, layout.num_elements)
        super().__init__(
            layout, initial, Buffer(layout.num_elements), buffer_size=buffer_size, optimizer=optimizer,
            cache=self._cache,
        )  # fmt: skip
        self.held_vectors = 2 + max_cached

    @classmethod
    def from_spec(cls, spec: CampaignSpec, layout: Layout, initial: Parameters) -> Self:
        """With what the spec says of buffer, optimizer and cache."""
        return cls(
            layout,
            initial,
            buffer_size=spec.aggregation.buffer_size,
            optimizer=server_rule(spec.server_optimizer),
            max_cached=read_args(spec, CA2FLArgs).max_cached,
        )

    def offer(self, contribution: Contribution) -> Merge | None:
        """Add Δ_i - h_i, and remember Δ_i as h_i; the K-th merges.

        Raises:
            InvariantError: the contribution is not a delta.
        """
        self._buffer.add(
            contribution.delta, weight=1.0, num_examples=contribution.num_examples, staleness=contribution.staleness
        )
        if (last := self._cache.get(contribution.worker)) is not None:
            self._buffer.subtract(Delta(last))
        self._cache.put(contribution.worker, contribution.delta)
        return self._merge_if_full()

    def mean(self, share: float) -> Delta:
        # All that is remembered now, minus what the buffer has changed, is what was remembered before it. Summed anew
        # each time: a running sum would gather rounding errors for as long as the campaign lasts.
        num_before = self._cache.num_before
        part = self._buffer.count / self._buffer_size
        change = self._buffer.mean(1.0).values
        if num_before == 0:
            divide(change, self._buffer_size)
        else:
            before = self._cache.sum()
            add_scaled(before, change, -1.0)
            divide(change, self._buffer_size)
            add_scaled(change, before, part / num_before)
        self._cache.no_newcomers()
        return Delta(change)
