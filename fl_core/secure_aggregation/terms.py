"""The terms of a campaign's secure aggregation: what a device, its keepers and the coordinator have to agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import msgpack

from fl_core.names import is_name
from fl_core.secure_aggregation.bounds import MAX_KEEPERS, MAX_SEEDS
from fl_core.secure_aggregation.seeds import held_by, outsiders
from fl_core.wire.checks import is_count, is_finite, is_positive
from fl_core.wire.record import Record, checked


def _are_keepers(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and 0 < len(value) <= MAX_KEEPERS
        and all(isinstance(name, str) and is_name(name) for name in value)
        and len(set(value)) == len(value)
    )


def _is_deviation(value: object) -> bool:
    return is_finite(value) and isinstance(value, int | float) and 0 <= value < 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms(Record):
    """A device seals its seeds under these, and a keeper can open them under the same alone.

    So a coordinator that tells keepers of fewer devices, or of less noise, than it told the devices gets nothing.

    Attributes:
        keepers: their names; their order numbers them.
        colluders: so many of them may work together with the coordinator and learn nothing but sums.
        min_devices: no sum of fewer different devices is opened.
        noise: the standard deviation, in units of the grid, of what is added to each element of the sum for each seed;
            0 for none.
        num_elements: of an update.
    """

    max_bytes: ClassVar[int] = 4096

    keepers: tuple[str, ...] = checked(_are_keepers)
    colluders: int = checked(is_count)
    min_devices: int = checked(is_positive)
    noise: float = checked(_is_deviation)
    num_elements: int = checked(is_positive)

    @property
    def num_seeds(self) -> int:
        """How many masks an update has."""
        return len(outsiders(len(self.keepers), self.colluders))

    def held_by(self, keeper: str) -> tuple[int, ...]:
        """The numbers of the seeds that a keeper holds."""
        return held_by(self.keepers.index(keeper), len(self.keepers), self.colluders)

    def context(self, campaign: str, task_id: str, attempt: int, worker: str, keeper: str) -> bytes:
        """What the seeds of one update for one keeper are sealed with: they open in no other place."""
        words = ["fedtide/seeds/1", self.to_bytes(), campaign, task_id, attempt, worker, keeper]
        packed: bytes = msgpack.packb(words)
        return packed


def are_sensible(num_keepers: int, colluders: int) -> bool:
    """Whether so many keepers can guard against so many colluders among them, at a cost that a device can bear.

    >>> are_sensible(3, 1), are_sensible(2, 2), are_sensible(16, 8)
    (True, False, False)
    """
    return 0 < colluders < num_keepers <= MAX_KEEPERS and len(outsiders(num_keepers, colluders)) <= MAX_SEEDS
