"""The versions that simulated devices hold: decoded once, counted as they would travel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coordinator.simulation.held_versions import HeldVersions
from fl_core.broker.bulk.constants import write_constants
from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.places import Places
from fl_core.broker.bulk.versions import write_version
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.tasks import TaskBroker
from fl_core.vectors import FloatArray
from fl_core.vectors.agreement import constants_digest
from tests.unit.workers.tasks import LAYOUT, TASK

KEYS = CampaignKeys(TASK.campaign)
NOTHING = np.zeros(0, np.float32)


@pytest.fixture
def client() -> MemoryClient:
    return MemoryClient(MemoryServer())


def _publish(client: MemoryClient, version: int) -> Head:
    values = np.full(LAYOUT.num_moving, version, np.float32)
    return write_version(Places(client), KEYS, version, values.data.cast("B"))


def _held(client: MemoryClient, constants: FloatArray = NOTHING, max_bytes: int = 2**20) -> HeldVersions:
    return HeldVersions(TaskBroker(client, "pi"), LAYOUT, constants, max_bytes)


def test_a_version_is_fetched_by_whoever_lacks_it_and_decoded_once(client: MemoryClient) -> None:
    """The second device pays for its own way down, and shares the memory; held again it costs nothing."""
    held, head = _held(client), _publish(client, 3)
    first, paid = held.hold("a", TASK, head)
    second, paid_too = held.hold("b", TASK, head)
    assert (paid, paid_too) == (head.num_bytes, head.num_bytes)
    assert first is second
    assert set(first.values.tolist()) == {3.0}
    assert held.hold("a", TASK, head)[1] == 0
    assert (held.digest_of("a"), held.digest_of("c")) == (head.digest, "")


def test_memory_is_bounded_and_a_version_given_up_is_fetched_whole(client: MemoryClient) -> None:
    """Two are always kept: the one at hand, and the one before."""
    held = _held(client, max_bytes=1)
    heads = [_publish(client, version) for version in (1, 2, 3)]
    for name, head in zip("abc", heads, strict=True):
        held.hold(name, TASK, head)
    assert [bool(held.digest_of(name)) for name in "abc"] == [False, True, True]


def test_constants_that_differ_are_fetched_once_for_all(client: MemoryClient) -> None:
    """As a device does whose library builds other ones; from then on every version has the campaign's behind it."""
    own, wanted = np.zeros(2, np.float32), np.array([7.0, 8.0], np.float32)
    written = write_constants(Places(client), KEYS, wanted.data.cast("B"), "")
    client.execute_command(*written.command(KEYS))
    task = replace(TASK, constants_digest=constants_digest(wanted))
    held, head = _held(client, own), _publish(client, 1)
    base, paid = held.hold("a", task, head)
    assert (base.values[-2:].tolist(), paid) == ([7.0, 8.0], head.num_bytes + 8)
    assert held.hold("b", task, head)[1] == head.num_bytes
