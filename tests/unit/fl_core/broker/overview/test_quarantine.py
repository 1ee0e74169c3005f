"""The quarantine, over a broker's twin."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fl_core.broker.keys import CampaignKeys
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.overview.quarantine import MAX_PARKED_BYTES, Parked, Quarantine

PARKED = Parked("not_finite", "1 value is NaN", "pi", 7, b"header", b"payload", 7, 1_700_000_000_000)
KEYS = CampaignKeys("digits-1")


@pytest.fixture
def client() -> MemoryClient:
    return MemoryClient(MemoryServer())


def _park(client: MemoryClient, parked: Parked) -> None:
    for command in Quarantine(client, KEYS).park_commands(parked):
        client.execute_command(*command)


def test_what_is_parked_comes_back_the_newest_first(client: MemoryClient) -> None:
    """In pages, and as many as are wanted."""
    quarantine = Quarantine(client, KEYS)
    assert quarantine.newest() == []
    for number in range(70):
        _park(client, replace(PARKED, task=number))
    found = quarantine.newest()
    assert [parked.task for parked in found] == list(range(69, -1, -1))
    assert [parked.task for parked in quarantine.newest(33)] == list(range(69, 36, -1))
    assert replace(found[0], position="", task=7) == PARKED


def test_one_is_found_by_its_position_and_taken_out(client: MemoryClient) -> None:
    """A position that is none finds nothing."""
    quarantine = Quarantine(client, KEYS)
    _park(client, PARKED)
    (parked,) = quarantine.newest()
    assert quarantine.find(parked.position) == parked
    for command in quarantine.unpark_commands(parked.position):
        client.execute_command(*command)
    assert quarantine.find(parked.position) is None
    assert quarantine.find("latest") is None


def test_a_payload_that_is_too_large_is_not_kept(client: MemoryClient) -> None:
    """What was declared is; it cannot be taken in again."""
    size = MAX_PARKED_BYTES + 1
    _park(client, replace(PARKED, payload=bytes(size), payload_bytes=size, task=None))
    (parked,) = Quarantine(client, KEYS).newest()
    assert (parked.payload, parked.payload_bytes, parked.task, parked.has_payload) == (b"", size, None, False)


def test_what_no_coordinator_parked_is_left_out(client: MemoryClient) -> None:
    """Whoever reaches the broker can write there."""
    client.xadd(KEYS.parked, {"task": "seven"})
    client.xadd(KEYS.parked, {"payload": bytes(MAX_PARKED_BYTES + 1)})
    _park(client, PARKED)
    assert len(Quarantine(client, KEYS).newest()) == 1
