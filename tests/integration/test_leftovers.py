"""What campaigns leave behind is found and dropped, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from coordinator.cli import fedtide
from fl_core.broker.bulk import chunks, versions
from fl_core.broker.bulk.places import Places
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.connection import connect
from fl_core.broker.keys import CAMPAIGNS, CampaignKeys
from fl_core.broker.overview import leftovers
from fl_core.broker.overview.quarantine import Parked
from fl_core.broker.server.embedded import EmbeddedServer

PARKED = Parked("too_stale", "", "w", 1, b"h", b"p" * 1000, 1000, 1)
SIZE = chunks.CHUNK_BYTES + 10


@pytest.fixture
def second(tmp_path: Path) -> Any:
    """A server for blobs."""
    with EmbeddedServer(tmp_path / "second", persistent=False) as server:
        yield server


def campaign(
    client: redis.Redis, name: str, *, incarnation: str = "e", writer: bool = False, place: str = ""
) -> CampaignKeys:
    """A campaign with two versions, one of them at a place, as its coordinator left it."""
    keys, places = CampaignKeys(name), Places(client, [place])
    CampaignBroker(client, name).register(1, incarnation, "[checkpoint]\n", position="0-0", control_position="0-0")
    for version, where in ((1, ""), (2, place)):
        head = versions.write_version(places, keys, version, b"x" * SIZE, place=where)
        for command in versions.publish_commands(keys, head):
            client.execute_command(*command)
    if writer:
        client.set(keys.writer, "laptop:1:a:b:c")
    return keys


def held(client: redis.Redis, keys: CampaignKeys) -> set[str]:
    prefix = f"fedtide:c:{{{keys.campaign}}}:"
    return {key.decode().removeprefix(prefix) for key in client.keys("*") if key.decode().startswith(prefix)}


def test_bytes_that_nobody_points_to_are_swept(client: redis.Redis) -> None:
    """A coordinator died between writing version 7 and pointing to it: its successor drops that, and no other."""
    keys, other = campaign(client, "a-1"), campaign(client, "a-12")
    versions.write_version(Places(client), keys, 7, b"x" * SIZE)
    versions.write_version(Places(client), other, 7, b"x" * SIZE)
    assert leftovers.sweep(client, keys, versions.known(client, keys)) == 2
    assert {name for name in held(client, keys) if name.startswith("model")} == {
        f"model:{version}:{chunk}" for version in (1, 2) for chunk in (0, 1)
    }
    assert "model:7:0" in held(client, other)


def test_what_an_ended_campaign_keeps_expires(client: redis.Redis) -> None:
    """Nothing bulky is left, also not what a worker was fetching, and all the rest has an end."""
    keys = campaign(client, "a-1")
    broker = CampaignBroker(client, "a-1")
    client.hset(keys.pins, "1-aa", "1")
    for command in [
        *broker.quarantine.park_commands(PARKED),
        *broker.status_commands(b"\x80"),
        ["SET", keys.fence, "1"],
    ]:
        client.execute_command(*command)
    leftovers.drop_bulk(client, keys)
    for command in broker.end_commands():
        client.execute_command(*command)
    assert held(client, keys) == {"epoch", "spec", "status", "head", "fence", "parked"}
    assert all(client.ttl(f"fedtide:c:{{a-1}}:{name}") > 0 for name in held(client, keys))
    leftovers.forget_expired(client, older_than_ms=100)
    assert client.zcard(CAMPAIGNS) == 1
    client.delete(keys.incarnation, keys.spec)
    leftovers.forget_expired(client, older_than_ms=100)
    assert client.zcard(CAMPAIGNS) == 0


def test_clean_shows_and_drops_what_nobody_coordinates(client: redis.Redis, second: EmbeddedServer) -> None:
    """Dry unless told; ended and orphaned ones at both servers; never one with a coordinator, nor another broker's."""
    place = f"127.0.0.1:{second.port}"
    elsewhere = connect(second.url)
    url = f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0"
    ended, orphan = campaign(client, "ended-1", incarnation="ended"), campaign(client, "orphan-1", place=place)
    living = campaign(client, "living-1", writer=True, place=place)
    versions.write_version(Places(elsewhere), CampaignKeys("foreign-1"), 1, b"x")
    before = held(client, living), held(elsewhere, living)

    def clean(*more: str) -> list[dict[str, Any]]:
        arguments = ["campaigns", "--clean", "--broker", url, "--blobs", place, "--json", *more]
        done = CliRunner().invoke(fedtide, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    rows = {row["campaign"]: row for row in clean()}
    assert {name: row["why"] for name, row in rows.items()} == {"ended-1": "ended", "orphan-1": "no coordinator"}
    assert all(row["bytes"] > 2 * SIZE and not row["dropped"] for row in rows.values())
    assert held(client, orphan)
    assert [row["dropped"] for row in clean("--yes", "orphan-1")] == [True]
    assert not held(client, orphan) | held(elsewhere, orphan)
    assert held(client, ended)
    assert [row["dropped"] for row in clean("--yes")] == [True]
    assert not held(client, ended)
    assert (held(client, living), held(elsewhere, living)) == before
    assert held(elsewhere, CampaignKeys("foreign-1"))
    assert client.zrange(CAMPAIGNS, 0, -1) == [b"living-1"]


def test_a_coordinator_that_comes_meanwhile_keeps_its_campaign(client: redis.Redis) -> None:
    """Between the look and the drop, somebody resumed it."""
    keys = campaign(client, "a-1")
    places = Places(client)
    (leftover,) = leftovers.find_leftovers(client, places, (), ())
    client.set(keys.writer, "laptop:1:a:b:c")
    before = held(client, keys)
    assert not leftovers.drop_leftover(client, places, leftover)
    assert held(client, keys) == before
