"""A fleet that is drawn from a profile: any number of devices, each made when it is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from coordinator.simulation.devices import SimulatedDevice
from coordinator.simulation.fleet.availability import DAY, Availability, Daily
from coordinator.simulation.fleet.distributions import correlated, normal_numbers, quantile
from coordinator.simulation.fleet.profile import Available, DeviceClass, Profile
from coordinator.simulation.fleet.shards import Shards
from coordinator.simulation.fleet.trace import Trace
from fl_core.errors import SpecError

MAX_DEVICES = 100_000_000
_HOUR = 3600.0


class DrawnFleet(Sequence[SimulatedDevice]):
    """``count`` devices as a profile describes them; the same profile, count and seed give the same fleet.

    Of each device a few numbers are kept, 40 bytes or so. Names are ``CLASS-NUMBER``.

    Args:
        profile: what the fleet is like.
        count: how many devices.
        seed: of all that is drawn.
        trace: when these devices were there, and under which names; None for what the profile says.

    Raises:
        SpecError: there can be no such fleet.
    """

    def __init__(self, profile: Profile, count: int, seed: int = 0, trace: Trace | None = None) -> None:
        if not 1 <= count <= MAX_DEVICES:
            raise SpecError(f"devices = {count} is not between 1 and {MAX_DEVICES:,}.")
        if not profile.data.factory:
            raise SpecError("the profile does not say what data devices have; give it [data] with a factory.")
        if trace is not None and count > len(trace.names):
            raise SpecError(f"devices = {count} is more than the {len(trace.names)} of the trace.")
        self._trace = trace
        self._profile = profile
        self._count = count
        self._seed = seed
        self._own_data = "{index}" in profile.data.args.values()
        self._shards = Shards(profile.data, seed)
        shares = np.array([each.share for each in profile.devices], np.float64)
        # Rounding the running total, not each share, keeps the sum of the parts equal to the fleet's size.
        self._first = np.concatenate(([0], np.round(np.cumsum(shares) / shares.sum() * count))).astype(np.int64)
        self._classes = [
            _Drawn(each, profile, int(last - first), seed)
            for each, first, last in zip(profile.devices, self._first[:-1], self._first[1:], strict=True)
        ]

    @property
    def queues(self) -> Mapping[str, npt.NDArray[np.int64]]:
        """The devices' numbers by the queue that they serve, in a random order."""
        parts: dict[str, list[npt.NDArray[np.int64]]] = {}
        for each, first, last in zip(self._profile.devices, self._first[:-1], self._first[1:], strict=True):
            parts.setdefault(each.queue, []).append(np.arange(first, last))
        random = np.random.Generator(np.random.Philox(key=[self._seed % 2**64, 2**63]))
        return {queue: random.permutation(np.concatenate(some)) for queue, some in parts.items()}

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> SimulatedDevice: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[SimulatedDevice]: ...

    def __getitem__(self, index: int | slice) -> SimulatedDevice | Sequence[SimulatedDevice]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        index = index + self._count if index < 0 else index
        if not 0 <= index < self._count:
            raise IndexError(index)
        at = int(np.searchsorted(self._first, index, side="right")) - 1
        device = self._classes[at].device(index, index - int(self._first[at]), *self._data(index, at))
        if self._trace is not None:
            device.name, device.available = self._trace.names[index], self._trace.available[index]
            if self._trace.speeds is not None:
                device.seconds_per_example = self._trace.speeds[index]
        return device

    def __iter__(self) -> Iterator[SimulatedDevice]:
        return (self[index] for index in range(self._count))

    def names(self, queue: str) -> list[str]:
        """Of all devices that serve a queue."""
        return [
            f"{each.name}-{index}" if self._trace is None else self._trace.names[index]
            for each, first, last in zip(self._profile.devices, self._first[:-1], self._first[1:], strict=True)
            if each.queue == queue
            for index in range(first, last)
        ]

    def _data(self, index: int, at: int) -> tuple[Any, Mapping[str, Any]]:
        section = self._profile.data
        if self._own_data:
            places = {"{index}": index, "{count}": self._count}
            args = {
                key: places.get(value, value) if isinstance(value, str) else value
                for key, value in section.args.items()
            }
            return section.factory, args
        number = self._classes[at].num_examples(index - int(self._first[at]))
        return partial(self._shards.of, index, number), {}


class _Drawn:
    """What is drawn for the devices of one class, float32 ``(devices,)`` each; None where all have the same."""

    def __init__(self, section: DeviceClass, profile: Profile, count: int, seed: int) -> None:
        self._section = section
        self._start_hour = profile.start_hour
        data = normal_numbers(seed, f"{section.name}/examples", count)
        self._examples = quantile(profile.data.examples, data).round().clip(1).astype(np.int32)
        speed = normal_numbers(seed, f"{section.name}/seconds_per_example", count)
        speed = correlated(data, speed, section.speed_follows_data) if section.speed_follows_data else speed
        self._per_example = quantile(section.seconds_per_example, speed).astype(np.float32)

        def drawn(name: str) -> npt.NDArray[np.float32] | float:
            quantity = getattr(section, name)
            if quantity is None or isinstance(quantity, (int, float)):
                return np.inf if quantity is None else float(quantity)
            return quantile(quantity, normal_numbers(seed, f"{section.name}/{name}", count)).astype(np.float32)

        self._numbers = {
            name: drawn(name)
            for name in ("overhead_seconds", "down_bytes_per_second", "up_bytes_per_second", "latency_seconds")
        }
        self._start, self._length = _daily(section.available, section.name, count, seed)

    def num_examples(self, at: int) -> int:
        return int(self._examples[at])

    def device(self, index: int, at: int, dataset: Any, data_args: Mapping[str, Any]) -> SimulatedDevice:
        section = self._section
        numbers: dict[str, Any] = {
            name: float(some[at]) if isinstance(some, np.ndarray) else some for name, some in self._numbers.items()
        }
        return SimulatedDevice(
            f"{section.name}-{index}", dataset, queue=section.queue, seconds_per_example=float(self._per_example[at]),
            drop_out=section.drop_out, available=self._available(at), data_args=data_args, **numbers,
        )  # fmt: skip

    def _available(self, at: int) -> Availability | None:
        if self._start is None or self._length is None:
            return None
        return Daily((float(self._start[at]) - _HOUR * self._start_hour) % DAY, float(self._length[at]))


def _daily(
    section: Available | None, name: str, count: int, seed: int
) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None]:
    """When each device's time begins, in seconds of the day, and how long it lasts."""
    if section is None:
        return None, None
    random = np.random.Generator(np.random.Philox(key=[seed % 2**64, 2**62]))
    weights = np.array(section.hours) / sum(section.hours)
    start = _HOUR * (random.choice(24, count, p=weights) + random.random(count))
    length = 60 * quantile(section.minutes, normal_numbers(seed, f"{name}/minutes", count)).clip(1, DAY / 60)
    return start.astype(np.float32), length.astype(np.float32)
