"""Simulated devices, and the signs of life that they would give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from fl_core.broker import keys
from fl_core.broker.memory.keyspace import Keyspace, SortedSet
from fl_core.broker.overview.roster import IDLE_BEAT_SECONDS
from fl_core.factory import call
from fl_core.training.local import LocalTraining
from fl_core.training.one_task import Alter

_HOLDING = keys.HOLDING.encode()


@dataclass(slots=True)
class SimulatedDevice:
    """One device of a simulated fleet.

    A task takes it ``overhead_seconds``, and ``seconds_per_example`` for each example that it trains on. What it
    remembers from task to task belongs to one simulation: the same devices may serve the next one.

    Attributes:
        name: as a worker's.
        dataset: its private data, map-style; or the import path of a function that makes it, which is called with
            ``data_args`` at the device's first task.
        overhead_seconds, seconds_per_example: its speed, in virtual seconds.
        queue: the device class that it serves.
        own_model: builds an architecture of its own, for methods that train one; None where it has none.
        alter: plays a hostile device: gets the honest values (float32), what they are (``delta``, ``parameters`` or
            ``soft_labels``) and the base version's weights, and returns what is sent; None for an honest one.
    """

    name: str
    dataset: Dataset[Any] | str
    overhead_seconds: float = 0.1
    seconds_per_example: float = 0.0
    queue: str = "default"
    own_model: Callable[[], nn.Module] | None = None
    alter: Alter | None = None
    data_args: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Dataset[Any]:
        """The private data.

        Raises:
            DataError, SpecError: what is named cannot be loaded; so with what it raises.
        """
        if not isinstance(self.dataset, str):
            return self.dataset
        loaded: Dataset[Any] = call(self.dataset, self.data_args, f"the dataset of device {self.name!r}")
        return loaded

    def seconds_of(self, training: LocalTraining) -> float:
        """What a training takes here."""
        return self.seconds_per_example * training.num_seen


class Register(SortedSet):
    """The live workers of a device class: every simulated device of it, whose next beat is always due later.

    Nothing is written for a beat, so a fleet of any size costs nothing while it waits.

    Args:
        names: of the devices.
        keyspace: whose clock beats go by.
    """

    def __init__(self, names: Sequence[str], keyspace: Keyspace) -> None:
        super().__init__()
        self._names = names
        self._keyspace = keyspace

    @property
    def _due_ms(self) -> float:
        return self._keyspace.now_ms + 1000 * IDLE_BEAT_SECONDS

    def count(self, low: float, high: float) -> int:
        """All of them, or none."""
        return len(self._names) if low <= self._due_ms <= high else 0

    def ranked(self, *, reverse: bool = False) -> list[tuple[bytes, float]]:
        """By name."""
        return [(name.encode(), self._due_ms) for name in sorted(self._names, reverse=reverse)]


class Seen(SortedSet):
    """When workers were last heard of: those that are at work, just now.

    Args:
        keyspace: knows who holds a task, and has the clock by which beats go.
    """

    def __init__(self, keyspace: Keyspace) -> None:
        super().__init__()
        self._keyspace = keyspace

    def get(self, member: bytes, default: Any = None) -> Any:
        """The last beat; ``default`` for a device that is idle, of which nobody asks."""
        return self._keyspace.now_ms if member in self._keyspace.hash(_HOLDING) else default
