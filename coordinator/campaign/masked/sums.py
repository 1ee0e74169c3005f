"""The masked sums of a campaign: one fills, and those that are full wait to be opened, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from fl_core.aggregation import Contribution
from fl_core.aggregation.staleness import StalenessWeight, constant, staleness_weight
from fl_core.errors import InvariantError, Reason, RejectedUpdate
from fl_core.privacy.grid import from_grid
from fl_core.secure_aggregation.bounds import WEIGHTS
from fl_core.secure_aggregation.masked_sum import MaskedSum, weight_steps
from fl_core.secure_aggregation.masks import Residues, whole_numbers
from fl_core.secure_aggregation.of_spec import clip_of, terms_of
from fl_core.secure_aggregation.orders import Answer
from fl_core.spec import CampaignSpec
from fl_core.vectors import Delta, FloatArray
from fl_core.vectors.layout import Layout
from fl_core.wire.log_entry import LogEntry
from fl_core.wire.messages import ModelUpdate
from fl_core.wire.signed import body_of

SUM = "masked."
"""What the arrays' names begin with in a checkpoint."""

MAX_WAITING = 2
"""No new task is issued while so many sums wait: keepers that are away must not fill the coordinator's memory."""


class MaskedVector:
    """An update under its masks: it can be added to others, and not be read.

    Attributes:
        values: modulo 2**32.
        header: as its device signed it.
    """

    def __init__(self, values: Residues, header: bytes) -> None:
        self.values = values
        self.header = header

    @property
    def size(self) -> int:
        """How many elements it has."""
        return int(self.values.size)

    def read_into(self, out: FloatArray, start: int, weight: float) -> None:
        """There is nothing to be read.

        Raises:
            InvariantError: always.
        """
        raise InvariantError("a masked update was to be read")


class MaskedSums:
    """Takes them in, and gives the mean of an opened one.

    Args:
        spec, layout: the campaign's.

    Attributes:
        buffer_size: K.
        filling: the sum that updates are added to.
        waiting: those that are full, the oldest first.
    """

    def __init__(self, spec: CampaignSpec, layout: Layout) -> None:
        self._terms = terms_of(spec, layout.num_parameters)
        self._clip = clip_of(spec)
        self._weigh: StalenessWeight = (
            staleness_weight(spec.aggregation) if spec.aggregation.strategy == "fedbuff" else constant()
        )
        self.buffer_size = spec.aggregation.buffer_size
        self.filling = MaskedSum(self._terms)
        self.waiting: list[MaskedSum] = []

    @classmethod
    def of(cls, spec: CampaignSpec, layout: Layout) -> Self | None:
        """Of a campaign with keepers; None for any other."""
        return cls(spec, layout) if spec.secure_aggregation.is_on else None

    @property
    def num_waiting(self) -> int:
        """How many updates wait, in all sums."""
        return self.filling.count + sum(one.count for one in self.waiting)

    @property
    def is_full(self) -> bool:
        """Whether the sum that fills has its K."""
        return self.filling.count >= self.buffer_size

    @property
    def can_be_opened(self) -> bool:
        """Whether the sum that fills has updates of enough devices."""
        return self.filling.num_devices >= self._terms.min_devices

    @property
    def is_crowded(self) -> bool:
        """Whether so many sums wait that nothing more is to be trained for now."""
        return len(self.waiting) >= MAX_WAITING

    # -- updates ---------------------------------------------------------------------------------------------------

    def verify(self, update: ModelUpdate) -> None:
        """Refuse an update that leaves no seat for the devices that this sum still lacks.

        Raises:
            RejectedUpdate: its device is in it already, and the other seats are for others (resting); or it does not
                have a box for each keeper (malformed).
        """
        if len(update.boxes) != len(self._terms.keepers):
            raise RejectedUpdate(
                Reason.MALFORMED, f"it brings {len(update.boxes)} boxes for {len(self._terms.keepers)} keepers"
            )
        lacking = self._terms.min_devices - self.filling.num_devices
        if update.worker in self.filling.devices and self.buffer_size - self.filling.count <= lacking:
            raise RejectedUpdate(
                Reason.RESTING,
                f"{update.worker} is in this sum already, and its last {lacking} seats are for other devices",
            )

    def contribution(
        self, update: ModelUpdate, payload: memoryview | bytes, header: bytes, staleness: int
    ) -> Contribution:
        """An update as it can be added; its numbers stay in the payload's memory.

        Raises:
            RejectedUpdate: it has another length (malformed).
        """
        num_bytes, size = memoryview(payload).nbytes, self._terms.num_elements
        if num_bytes != 4 * size:
            raise RejectedUpdate(
                Reason.MALFORMED, f"the masked payload has {num_bytes} bytes; {size} elements take {4 * size}"
            )
        values = np.frombuffer(payload, "<u4").astype(np.uint32, copy=False)
        return Contribution(Delta(MaskedVector(values, header)), staleness=staleness, worker=update.worker)

    def add(self, contribution: Contribution) -> None:
        """Σ <- Σ + w y, with w = s(τ) in 16ths, as it is now."""
        masked = contribution.delta.vector
        if not isinstance(masked, MaskedVector):
            raise InvariantError(f"{contribution.worker!r} sent an update without masks")
        self.filling.add(
            masked.values,
            weight_steps(self._weigh(contribution.staleness)),
            header=masked.header,
            staleness=contribution.staleness,
            device=contribution.worker,
        )

    def close(self) -> MaskedSum:
        """The sum that fills waits to be opened from now on."""
        closed, self.filling = self.filling, MaskedSum(self._terms)
        self.waiting.append(closed)
        return closed

    def drop(self) -> list[str]:
        """Forget all of them; whose updates were in them."""
        devices = [device for one in (*self.waiting, self.filling) for device in one.devices]
        self.waiting, self.filling = [], MaskedSum(self._terms)
        return devices

    # -- opening ---------------------------------------------------------------------------------------------------

    def find(self, order: str) -> MaskedSum | None:
        """The waiting sum of an order, by its digest; None where none waits."""
        return next((one for one in self.waiting if one.digest == order), None)

    @property
    def oldest_open(self) -> MaskedSum | None:
        """The oldest sum, if all its masks are off."""
        return self.waiting[0] if self.waiting and not self.waiting[0].missing else None

    def mean(self, opened: MaskedSum) -> Delta:
        """C / (2**16 · 16 · K) times the sum: an update of weight 1 moves the model by at most C / K."""
        return Delta(from_grid(whole_numbers(opened.total), self._clip, float(WEIGHTS * self.buffer_size)))

    @staticmethod
    def weights(opened: MaskedSum) -> tuple[float, ...]:
        """The update weight of each, as it was used."""
        return tuple(weight / WEIGHTS for weight in opened.weights)

    # -- checkpoint ------------------------------------------------------------------------------------------------

    def export(self) -> tuple[dict[str, Residues], list[dict[str, Any]]]:
        """All state: arrays by name (views), and plain values."""
        sums = [*self.waiting, self.filling]
        return {f"{SUM}{number}": one.total for number, one in enumerate(sums) if one.count}, [
            one.export() for one in sums
        ]

    def restore(self, tensors: Mapping[str, Any], meta: list[dict[str, Any]]) -> None:
        """The inverse of ``export``.

        Raises:
            CampaignError: a sum is missing, or of another model.
        """
        *self.waiting, self.filling = [
            MaskedSum.restored(self._terms, row, tensors.get(f"{SUM}{number}")) for number, row in enumerate(meta)
        ]


def announced_sum(entry: LogEntry, num_elements: int) -> tuple[str, int] | None:
    """Name and size of the payload that an answer brings; None where it rides in the entry, or cannot be one."""
    if entry.kind != "k" or entry.payload:
        return None
    try:
        answer = Answer.from_bytes(body_of(entry.header))
    except RejectedUpdate:
        return None
    own = answer.blob.startswith(f"{answer.keeper}:sum-")
    return (answer.blob, answer.payload_bytes) if own and 0 < answer.payload_bytes <= 4 * num_elements else None
