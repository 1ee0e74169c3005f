"""Simulated devices, and the signs of life that they would give."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from coordinator.outgoing.lookout import MAX_NAMED
from coordinator.simulation.fleet.availability import Availability
from fl_core.broker import keys
from fl_core.broker.memory.keyspace import Keyspace, SortedSet
from fl_core.broker.overview.roster import IDLE_BEAT_SECONDS
from fl_core.factory import call
from fl_core.training.local import LocalTraining
from fl_core.training.one_task import Alter

_TOKEN = b"0"


@dataclass(slots=True)
class SimulatedDevice:
    """One device of a simulated fleet.

    A task takes it ``overhead_seconds``, ``seconds_per_example`` for each example that it trains on, and what its
    network takes. What it remembers from task to task belongs to one simulation: the same devices may serve the next.

    Attributes:
        name: as a worker's.
        dataset: its private data, map-style; or a function that makes it, or the import path of one, which is called
            with ``data_args`` when the device has a task.
        overhead_seconds, seconds_per_example: its speed, in virtual seconds.
        queue: the device class that it serves.
        own_model: builds an architecture of its own, for methods that train one; None where it has none.
        alter: plays a hostile device: gets the honest values (float32), what they are (``delta``, ``parameters`` or
            ``soft_labels``) and the base version's weights, and returns what is sent; None for an honest one.
        down_bytes_per_second, up_bytes_per_second: its network.
        latency_seconds: of each of the three exchanges that a task takes.
        drop_out: the part of its tasks in which it vanishes before the end, in [0, 1).
        available: when it is there; None for always. A task in its hands when it leaves is lost.
    """

    name: str
    dataset: Dataset[Any] | Callable[..., Dataset[Any]] | str
    overhead_seconds: float = 0.1
    seconds_per_example: float = 0.0
    queue: str = "default"
    own_model: Callable[[], nn.Module] | None = None
    alter: Alter | None = None
    data_args: Mapping[str, Any] = field(default_factory=dict)
    down_bytes_per_second: float = math.inf
    up_bytes_per_second: float = math.inf
    latency_seconds: float = 0.0
    drop_out: float = 0.0
    available: Availability | None = None

    def load(self) -> Dataset[Any]:
        """The private data.

        Raises:
            DataError, SpecError: what is named cannot be loaded; so with what it raises.
        """
        if isinstance(self.dataset, str):
            loaded: Dataset[Any] = call(self.dataset, self.data_args, f"the dataset of device {self.name!r}")
            return loaded
        if callable(self.dataset) and not hasattr(self.dataset, "__getitem__"):
            return self.dataset(**self.data_args)
        given: Any = self.dataset
        dataset: Dataset[Any] = given
        return dataset

    def seconds_of(self, training: LocalTraining) -> float:
        """What a training takes here."""
        return self.seconds_per_example * training.num_seen

    def seconds_beside(self, bytes_down: int, bytes_up: int) -> float:
        """What a task takes here beside the training."""
        moved = bytes_down / self.down_bytes_per_second + bytes_up / self.up_bytes_per_second
        return self.overhead_seconds + 3 * self.latency_seconds + moved

    def vanishes_after(self, task: str) -> float | None:
        """After which part of this task's time it vanishes, in [0, 1); None if it stays.

        The same device vanishes in the same tasks, however the simulation is run.
        """
        if not self.drop_out:
            return None
        drawn = zlib.crc32(f"{self.name}/{task}".encode()) / 2**32
        return drawn / self.drop_out if drawn < self.drop_out else None


class SignsOfLife:
    """What a fleet's beats would have written, without any: registers, and each device's own word.

    Of a fleet too large for its devices to be read by name, only those that have a task say something.

    Args:
        keyspace: where they stand.
        fleet: for each queue how many devices serve it, and their names, asked for where somebody looks at them.
    """

    def __init__(self, keyspace: Keyspace, fleet: Mapping[str, tuple[int, Callable[[], Iterable[str]]]]) -> None:
        self._keyspace = keyspace
        self._waiting = Word(keyspace) if sum(count for count, _ in fleet.values()) <= MAX_NAMED else None
        for queue, (count, names) in fleet.items():
            keyspace.put(keys.live(queue).encode(), Register(count, names, keyspace))
            for name in names() if self._waiting is not None else ():
                self.say(name)

    def say(self, name: str, holding: str = "") -> None:
        """What a device has in hand now; empty for nothing."""
        word = Word(self._keyspace, holding) if holding else self._waiting
        key = keys.device(name).encode()
        if word is None:
            self._keyspace.drop(key)
        else:
            self._keyspace.put(key, word)


class Register(SortedSet):
    """The live workers of a device class: every simulated device of it, whose next beat is always due later.

    Nothing is written for a beat, so a fleet of any size costs nothing while it waits.

    Args:
        count: how many there are.
        names: of the devices, asked for where somebody looks at them.
        keyspace: whose clock beats go by.
    """

    def __init__(self, count: int, names: Callable[[], Iterable[str]], keyspace: Keyspace) -> None:
        super().__init__()
        self._count = count
        self._names = names
        self._keyspace = keyspace

    @property
    def _due_ms(self) -> float:
        return self._keyspace.now_ms + 1000 * IDLE_BEAT_SECONDS

    def count(self, low: float, high: float) -> int:
        """All of them, or none."""
        return self._count if low <= self._due_ms <= high else 0

    def ranked(self, *, reverse: bool = False) -> list[tuple[bytes, float]]:
        """By name."""
        names = sorted(self._names(), reverse=reverse)
        return [(b"%b %b" % (name.encode(), _TOKEN), self._due_ms) for name in names]

    def __bool__(self) -> bool:
        """It is never dropped as an empty one."""
        return True


class Word(dict[bytes, bytes]):
    """What a simulated device says of itself: that it was heard just now, and what it holds.

    Args:
        keyspace: whose clock beats go by.
        holding: the task in hand; empty for a device that waits, and all of those may share one.
    """

    def __init__(self, keyspace: Keyspace, holding: str = "") -> None:
        super().__init__()
        self._keyspace = keyspace
        self._holding = holding.encode()

    def get(self, field: bytes, default: Any = None) -> Any:
        """The row that registers are held against, as of now."""
        return b"%d|%b|%b" % (self._keyspace.now_ms, _TOKEN, self._holding) if field == b"row" else default

    def __bool__(self) -> bool:
        """There is something in it."""
        return True
