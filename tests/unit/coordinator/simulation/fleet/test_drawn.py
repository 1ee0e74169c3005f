"""Drawn fleets: any size, from one seed, each device made when it is looked at."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from coordinator.simulation.fleet.drawn import DrawnFleet
from coordinator.simulation.fleet.profile import Profile, parse_profile
from fl_core.errors import SpecError

DOCUMENT = {
    "data": {"factory": "fl_core.data:digits", "examples": {"kind": "lognormal", "median": 30, "sigma": 0.5}},
    "devices": [
        {"name": "phone", "share": 3, "available": {}, "speed_follows_data": 0.9, "latency_seconds": 0.1,
         "up_bytes_per_second": {"kind": "exponential", "mean": 1e5, "least": 1e3}},
        {"name": "box", "queue": "gpu", "overhead_seconds": 0.2, "drop_out": 0.5},
    ],
}  # fmt: skip


def _profile() -> Profile:
    return parse_profile(DOCUMENT, "test")


def test_shares_names_and_queues() -> None:
    """Every device belongs to one class, and every number to one queue."""
    fleet = DrawnFleet(_profile(), 10)
    assert [device.name for device in fleet] == [f"phone-{i}" for i in range(8)] + ["box-8", "box-9"]
    assert {queue: sorted(some.tolist()) for queue, some in fleet.queues.items()} == {
        "default": list(range(8)), "gpu": [8, 9],
    }  # fmt: skip
    assert fleet.names("gpu") == ["box-8", "box-9"] and fleet[-1].name == "box-9" and len(fleet[2:5]) == 3
    with pytest.raises(IndexError):
        fleet[10]


def test_the_same_seed_gives_the_same_fleet() -> None:
    """Whoever looks at which device first; another seed gives another."""
    fleet, again, other = (DrawnFleet(_profile(), 1000, seed) for seed in (1, 1, 2))
    for i in (700, 3, 999):
        one, same = fleet[i], again[i]
        assert (one.name, one.seconds_per_example, one.up_bytes_per_second, one.available) == (
            same.name, same.seconds_per_example, same.up_bytes_per_second, same.available,
        )  # fmt: skip
        assert one.load().indices.tolist() == same.load().indices.tolist()  # type: ignore[attr-defined]
    assert fleet[3].seconds_per_example != other[3].seconds_per_example
    assert not np.array_equal(fleet.queues["default"], other.queues["default"])


def test_devices_with_more_data_may_be_slower() -> None:
    """By the correlation that the profile gives."""
    fleet = DrawnFleet(_profile(), 4000)
    phones = list(itertools.islice(fleet, 3000))
    sizes = [len(phone.load()) for phone in phones]  # type: ignore[arg-type]
    speeds = [phone.seconds_per_example for phone in phones]
    assert np.corrcoef(np.log(sizes), np.log(speeds))[0, 1] > 0.8


def test_data_of_ones_own_is_made_for_each_device() -> None:
    """A factory that asks which device it is for is called for each."""
    document = {"data": {"factory": "fl_core.data:digits", "args": {"shard": "{index}", "num_shards": "{count}"}}}
    fleet = DrawnFleet(parse_profile(document, "test"), 30)
    assert sum(len(device.load()) for device in fleet) == 1438  # type: ignore[arg-type]


def test_what_cannot_be_drawn_is_said() -> None:
    """A fleet without data, or without devices."""
    with pytest.raises(SpecError, match="what data devices have"):
        DrawnFleet(Profile(), 10)
    with pytest.raises(SpecError, match="devices = 0"):
        DrawnFleet(_profile(), 0)
