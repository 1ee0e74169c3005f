"""Payloads of large updates: read once, ahead of their turn, kept where they might be lost, and missed in one way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.campaign.effects import LostPayload
from coordinator.campaign.ledger import OpenTask
from coordinator.outgoing import payloads as module
from coordinator.outgoing.payloads import WORTH_A_THREAD_BYTES, Payloads
from coordinator.storage.spool import Spool
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.errors import BrokerUnavailable, MissingBlob, PayloadLost
from tests.unit.coordinator.stand_ins import IDENTITY, Events

PLACE = "1.2.3.4:7000"
SIZE = WORTH_A_THREAD_BYTES


class Servers:
    """What lies where, in the place of ``blobs``.

    Attributes:
        at: payloads by server (the broker is the empty one) and name.
        reads: name and server of each that was read.
        away: servers that do not answer.
    """

    def __init__(self) -> None:
        self.at: dict[str, dict[str, bytes]] = {"": {}, PLACE: {}}
        self.reads: list[tuple[str, str]] = []
        self.away: set[str] = set()

    def get(self, client: Any, key: str, num_bytes: int, into: memoryview) -> memoryview:
        place, name = (client if isinstance(client, str) else ""), key.rpartition(":")[2]
        self.reads.append((name, place))
        if place in self.away:
            raise BrokerUnavailable("away")
        if name not in self.at[place]:
            raise MissingBlob(name)
        into[:] = self.at[place][name]
        return into


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    servers = Servers()
    monkeypatch.setattr(module.blobs, "get", servers.get)

    class Places:
        def __init__(self, client: Any, places: Any) -> None:
            pass

        def at(self, place: str) -> str:
            return place

    monkeypatch.setattr(module, "Places", Places)
    return servers


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    """Makes payloads with or without a server for blobs."""
    made: list[Payloads] = []

    def make(place: str = "") -> Payloads:
        client = MemoryClient(MemoryServer())
        made.append(Payloads(client, CampaignBroker(client, IDENTITY.campaign), Spool(tmp_path / "spool"), place))
        return made[-1]

    yield make
    for payloads in made:
        payloads.close()


def test_what_is_expected_is_read_once(servers: Servers, make: Any) -> None:
    """Beside the merging; what is not expected any more does not get in the way."""
    servers.at[""] = {name: name.encode() * SIZE for name in "abc"}
    payloads = make()
    payloads.expect(("a", SIZE), ("b", SIZE))
    assert bytes(payloads.fetch("a", SIZE)) == b"a" * SIZE
    payloads.expect(("b", SIZE), ("c", SIZE))
    assert bytes(payloads.fetch("b", SIZE)) == b"b" * SIZE
    payloads.expect()
    assert sorted(name for name, _ in servers.reads[:2]) == ["a", "b"]
    assert bytes(payloads.fetch("c", SIZE)) == b"c" * SIZE


def test_two_payloads_are_good_at_a_time(servers: Servers, make: Any) -> None:
    """The one that is merged and the next: there are two buffers, whatever comes."""
    servers.at[""] = {name: name.encode() * 8 for name in "abc"}
    payloads = make()
    first, second = payloads.fetch("a", 8), payloads.fetch("b", 8)
    assert (bytes(first), bytes(second)) == (b"a" * 8, b"b" * 8)
    payloads.fetch("c", 8)
    assert bytes(second) == b"b" * 8


def test_what_a_server_for_blobs_might_lose_is_kept_on_disk(servers: Servers, make: Any, tmp_path: Path) -> None:
    """A coordinator that resumes finds it there; when a checkpoint covers it, it goes."""
    servers.at[PLACE] = {"a": b"a" * 8}
    assert bytes(make(PLACE).fetch("a", 8)) == b"a" * 8
    servers.at[PLACE].clear()
    again = make(PLACE)
    assert bytes(again.fetch("a", 8)) == b"a" * 8
    again.keep_only([])
    with pytest.raises(PayloadLost):
        again.fetch("a", 8)


@pytest.mark.parametrize(("place", "error"), [("", MissingBlob), (PLACE, PayloadLost)])
def test_a_payload_that_is_nowhere_is_missing_or_lost(
    servers: Servers, make: Any, place: str, error: type[Exception]
) -> None:
    """On the broker it never was; a server for blobs may have forgotten it, which is nobody's fault."""
    with pytest.raises(error):
        make(place).fetch("a", 8)


def test_a_server_for_blobs_that_is_away_is_passed_over(servers: Servers, make: Any) -> None:
    """A device may have written to the broker meanwhile; while that is away the caller waits."""
    servers.away, servers.at[""] = {PLACE}, {"a": b"a" * 8}
    payloads = make(PLACE)
    assert bytes(payloads.fetch("a", 8)) == b"a" * 8
    servers.away = {PLACE, ""}
    with pytest.raises(BrokerUnavailable):
        payloads.fetch("b", 8)


def test_the_task_of_a_lost_payload_is_issued_again_once(servers: Servers, make: Any) -> None:
    """The finding is written down with the event: a replay has to come to the same."""
    payloads, events = make(PLACE), Events()
    transaction: Any = events
    payloads.note_lost(LostPayload(OpenTask(3, 1, 0, "gpu", 0), 1, "3-x.1.w"))
    payloads.reissue_lost(transaction)
    payloads.reissue_lost(transaction)
    (event,) = events.appended
    assert event.to_map() == {"task": 3, "attempt": 1, "queue": "gpu", "reason": "payload_lost"}
    assert events.commands
    servers.at[PLACE] = {"3-x.1.w": b"a" * 8}
    with pytest.raises(PayloadLost):
        payloads.fetch("3-x.1.w", 8)
