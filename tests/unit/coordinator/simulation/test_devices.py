"""Simulated devices' signs of life: nothing is written for them, and whoever looks finds them alive."""

from __future__ import annotations

import pytest

from coordinator.simulation.devices import SignsOfLife, SimulatedDevice
from fl_core.broker import keys
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.overview.roster import Roster
from fl_core.errors import SpecError

DAY_MS = 24 * 3600 * 1000


def test_a_fleet_is_alive_at_any_time_and_costs_nothing() -> None:
    """Counted and named by the roster as a fleet that beats; each was heard of just now, with what it holds."""
    server = MemoryServer()
    client, roster = MemoryClient(server), Roster(MemoryClient(server))
    signs = SignsOfLife(server.keyspace, {"gpu": (2, lambda: ["b", "a"])})
    for _ in range(2):
        assert roster.count_live(["gpu", "cpu"]) == {"gpu": 2, "cpu": 0}
        assert roster.serving("gpu", max_workers=9) == {"a": True, "b": True}
        signs.say("a", "digits-1/1-abc#1")
        found = roster.lookup(["a", "b", "stranger"])
        assert found == {"a": (0.0, "digits-1/1-abc#1"), "b": (0.0, ""), "stranger": (float("inf"), "")}
        signs.say("a")
        roster.forget_silent(["gpu"])
        server.keyspace.now_ms += DAY_MS
    assert client.type(keys.live("gpu")) == b"zset"


def test_data_is_loaded_by_the_name_that_a_spec_would_give() -> None:
    """At the device's first task; what cannot be loaded is told with the device's name."""
    device = SimulatedDevice("pi", "fl_core.data:digits", data_args={"shard": 1, "num_shards": 9})
    assert len(device.load()) > 100  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"'pi'.*fl_core\.data:nothing"):
        SimulatedDevice("pi", "fl_core.data:nothing").load()
