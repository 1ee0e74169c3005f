"""Versions that reach devices as patches: the chain at a real server, and what a worker makes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from coordinator.outgoing.publisher import Publisher
from coordinator.telemetry.timing import Timing
from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.patches import Patch, chain_commands
from fl_core.broker.bulk.versions import order_commands
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.scripts import MAX_PATCHES
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.broker.tasks import TaskBroker
from fl_core.errors import BrokerUnavailable, MissingBlob
from fl_core.models.build import build_model
from fl_core.spec import TrainingSection
from fl_core.training.method import build_method
from fl_core.vectors import FloatArray, Parameters
from fl_core.vectors.layout import Layout
from fl_core.wire.messages import TrainTask
from tests.integration.lab import Lab, assert_identity, until
from workers.store.model_cache import CachedModel

FACTORY, ARGS = "fl_core.models:mlp", {"inputs": 64, "hidden": [1024], "classes": 10}
MODEL = {"factory": FACTORY, "args": ARGS}
MODULE = build_model(FACTORY, ARGS, seed=0)
LAYOUT = Layout.of(MODULE)
SIZE = LAYOUT.num_elements
KEYS = CampaignKeys("digits-1")
TASK = TrainTask(
    campaign="digits-1", task_id="1-abc", attempt=1, queue="default", timeout_seconds=60.0, model_factory=FACTORY,
    model_args=ARGS, layout_digest=LAYOUT.digest, training={}, codec="fp32", sends="delta",
)  # fmt: skip


class AtOnce:
    """A transaction that writes each command when it comes."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def add(self, commands: Iterable[Any]) -> None:
        for command in commands:
            self._client.execute_command(*command)


@dataclass
class Model:
    """What a publisher reads of a strategy."""

    parameters: Parameters
    version: int = 0


class World:
    """A coordinator's publisher and one worker's side, with a server between them."""

    def __init__(self, client: redis.Redis, place: str = "") -> None:
        self.client = client
        self.publisher = Publisher(client, KEYS, LAYOUT, Timing(), place, codec_name="int8")
        self.model = Model(Parameters(np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)))
        self.device = self.new_device()
        self.broker = TaskBroker(client, "pi")
        seconds, _ = client.time()
        client.hset(KEYS.open_tasks, TASK.task_id, f"1|{seconds * 1000}|default")
        AtOnce(client).add(order_commands(KEYS, TASK.order.to_bytes()))

    def new_device(self) -> CachedModel:
        settings = TrainingSection()
        return CachedModel(MODULE, LAYOUT, settings, build_method(settings))

    def publish(self, change: float = 0.01, *, exact: bool = False) -> None:
        noise = np.random.default_rng(self.model.version).standard_normal(SIZE).astype(np.float32)
        self.model.parameters.values[:] += np.float32(change) * noise
        self.model.version += 1
        self.publisher.publish(self.model, AtOnce(self.client), exact=exact)  # type: ignore[arg-type]

    def claim(self) -> Head:
        claim = self.broker.claim(TASK, self.device.digest)
        assert claim.head is not None
        return claim.head

    def fetch(self) -> int:
        """As a worker does, without its patience; the bytes that were fetched."""
        head = self.claim()
        if head.digest == self.device.digest:
            return 0
        if head.patches and self.device.can_be_patched:
            with contextlib.suppress(MissingBlob, BrokerUnavailable):
                payloads = list(self.broker.fetch_patches(TASK, head))
                if self.device.patch(head, payloads):
                    return sum(map(len, payloads))
        payload = self.broker.fetch(TASK, head, self.device.give_up_base())
        self.device.keep(head, payload)
        return len(payload)

    def held(self) -> FloatArray:
        assert self.device.base is not None
        return self.device.base.values


@pytest.fixture
def world(client: redis.Redis) -> World:
    """Everything on one server."""
    return World(client)


def test_a_device_follows_by_patches(world: World) -> None:
    """The first version comes whole, later ones in a quarter of the bytes; a new device gets what the old one holds."""
    world.publish()
    assert world.fetch() == 4 * SIZE
    np.testing.assert_array_equal(world.held(), world.model.parameters.values)
    for _ in range(5):
        world.publish()
        assert world.fetch() < 1.02 * SIZE
        assert world.fetch() == 0
    assert 0 < np.abs(world.held() - world.model.parameters.values).max() < 0.01 * 6 / 127
    before = world.held().copy()
    world.device = world.new_device()
    assert world.fetch() == 4 * SIZE
    np.testing.assert_array_equal(world.held(), before)
    assert world.client.hlen(KEYS.pins) == 0


def test_several_versions_behind_takes_several_patches_or_the_version(world: World) -> None:
    """Three patches of a quarter and four per mille are fewer bytes than the version; four are not."""
    world.publish()
    world.fetch()
    for _ in range(3):
        world.publish()
    assert [patch.version for patch in world.claim().patches] == [2, 3, 4]
    assert 3 * SIZE < world.fetch() < 3.02 * SIZE
    for _ in range(4):
        world.publish()
    assert world.claim().patches == ()
    assert world.fetch() == 4 * SIZE


def test_a_chain_with_a_gap_or_a_circle_leads_nowhere(world: World) -> None:
    """The script ends, and the version comes whole."""
    world.publish()
    world.fetch()
    world.publish()
    world.publish()
    second = world.claim().patches[0]
    world.client.hdel(KEYS.patches, second.leads_to)
    assert world.claim().patches == ()
    circle = replace(second, leads_to=world.device.digest, num_bytes=1)
    AtOnce(world.client).add(chain_commands(KEYS, world.device.digest, circle))
    assert world.claim().patches == ()
    assert world.fetch() == 4 * SIZE


def test_a_claim_follows_eight_patches_at_most(world: World) -> None:
    """However small they are: nobody else is served while a script runs."""
    world.publish()
    world.fetch()
    world.publish()
    head = world.claim()
    step = replace(head.patches[0], num_bytes=1)
    names = [world.device.digest, *(f"{number:032x}" for number in range(MAX_PATCHES - 1))]
    for held, leads_to in zip(names, [*names[1:], head.digest], strict=True):
        AtOnce(world.client).add(chain_commands(KEYS, held, replace(step, leads_to=leads_to)))
    assert len(world.claim().patches) == MAX_PATCHES
    AtOnce(world.client).add(chain_commands(KEYS, names[-1], replace(step, leads_to="f" * 32)))
    AtOnce(world.client).add(chain_commands(KEYS, "f" * 32, replace(step, leads_to=head.digest)))
    assert world.claim().patches == ()


def test_a_model_that_stands_still_takes_no_memory(world: World) -> None:
    """A version without a change is the one before: there is no patch to it, and a device fetches nothing."""
    world.publish()
    world.fetch()
    for _ in range(3):
        world.model.version += 1
        world.publisher.publish(world.model, AtOnce(world.client))  # type: ignore[arg-type]
    assert world.fetch() == 0
    assert list(world.client.scan_iter(f"{KEYS.patch(0)[:-1]}*")) == []


def test_a_model_that_was_taken_back_comes_whole(world: World) -> None:
    """After a divergence that was finite, devices and evaluation get the good parameters to the last bit."""
    good = world.model.parameters.values.copy()
    world.publish()
    world.fetch()
    world.publish(change=1e6)
    world.model.parameters.values[:] = good
    world.publish(change=0.0)
    assert world.claim().patches == ()
    assert world.fetch() == 4 * SIZE
    np.testing.assert_array_equal(world.held(), good)
    world.publish()
    assert world.fetch() < 1.02 * SIZE


def test_old_patches_are_dropped_with_old_versions(world: World) -> None:
    """Those stay that a chain shorter than a version can use, and none at the end."""
    for _ in range(8):
        world.publish()
    kept = sorted(Patch.from_row(row).version for row in world.client.hvals(KEYS.patches))
    assert kept == list(range(2, 9))
    world.publisher.drop_old(AtOnce(world.client))  # type: ignore[arg-type]
    kept = sorted(Patch.from_row(row).version for row in world.client.hvals(KEYS.patches))
    assert kept == [6, 7, 8]
    assert {int(name.split(b":")[-2]) for name in world.client.scan_iter(f"{KEYS.patch(0)[:-1]}*")} == {6, 7, 8}
    world.publisher.drop_old(AtOnce(world.client), kept=0)  # type: ignore[arg-type]
    assert world.client.hlen(KEYS.patches) == 0
    assert not list(world.client.scan_iter(f"{KEYS.patch(0)[:-1]}*"))


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_patch_that_cannot_be_used_costs_a_fetch(world: World, harm: str) -> None:
    """Before anything is applied, so that the version at hand is still whole."""
    world.publish()
    world.fetch()
    before = world.held().copy()
    world.publish()
    key = f"{KEYS.patch(2)}:0"
    if harm == "gone":
        world.client.delete(key)
    else:
        world.client.setrange(key, 5000, b"\x55")
    with pytest.raises(MissingBlob):
        list(world.broker.fetch_patches(TASK, world.claim()))
    np.testing.assert_array_equal(world.held(), before)


@pytest.mark.parametrize("harm", ["other patch", "other codec", "other size"])
def test_patches_that_do_not_lead_to_the_version_leave_none(world: World, harm: str) -> None:
    """The digest of what came of them decides; a device that is not there holds nothing and fetches."""
    world.publish()
    world.fetch()
    world.publish()
    head = world.claim()
    payload = bytearray(next(world.broker.fetch_patches(TASK, head)))
    match harm:
        case "other patch":
            payload[-1] ^= 1
        case "other codec":
            head = replace(head, patches=(replace(head.patches[0], codec="unheard-of"),))
        case _:
            payload = payload[:-1]
    assert world.device.patch(head, [memoryview(payload)]) is False
    assert (world.device.base, world.device.digest) == (None, "")
    assert world.fetch() == 4 * SIZE


def test_the_last_version_is_exact(world: World) -> None:
    """At a campaign's end devices and evaluation get the model itself."""
    world.publish()
    world.fetch()
    world.publish(exact=True)
    assert world.fetch() == 4 * SIZE
    np.testing.assert_array_equal(world.held(), world.model.parameters.values)


def test_another_coordinator_begins_a_chain_of_its_own(world: World) -> None:
    """It does not know what devices hold, so the first version that it publishes comes whole."""
    world.publish()
    world.publish()
    world.fetch()
    successor = World(world.client)
    successor.model, successor.device = world.model, world.device
    successor.publish()
    assert world.client.hlen(KEYS.patches) == 0
    assert successor.fetch() == 4 * SIZE
    successor.publish()
    assert successor.fetch() < 1.02 * SIZE


@pytest.fixture
def second(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server for blobs."""
    with EmbeddedServer(tmp_path / "second", persistent=False) as server:
        yield server


def test_a_server_that_dies_with_its_patches_costs_a_fetch(client: redis.Redis, second: EmbeddedServer) -> None:
    """What led over it comes whole from the broker, and the chain goes on there."""
    world = World(client, place=f":{second.port}")
    world.publish()
    world.fetch()
    world.publish()
    assert world.claim().patches[0].place == f":{second.port}"
    second.kill()
    with pytest.raises(BrokerUnavailable):
        list(world.broker.fetch_patches(TASK, world.claim()))
    world.publish()
    assert [patch.place for patch in world.claim().patches] == [f":{second.port}", ""]
    assert world.fetch() == 4 * SIZE
    world.publish()
    assert world.fetch() < 1.02 * SIZE
    np.testing.assert_allclose(world.held(), world.model.parameters.values, atol=0.01 * 6 / 127)


def test_a_publication_that_failed_is_not_built_upon(world: World) -> None:
    """It is not known what devices hold, so the next version comes whole, from the model itself."""
    world.publish()
    world.fetch()
    world.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokerUnavailable, match="out of memory"):
            world.publish()
    finally:
        world.client.config_set("maxmemory", 0)
    world.publish()
    assert world.claim().patches == ()
    assert world.fetch() == 4 * SIZE
    np.testing.assert_array_equal(world.held(), world.model.parameters.values)


def test_a_campaign_sends_patches_by_way_of_a_server_that_forgets(lab: Lab, second: EmbeddedServer) -> None:
    """Killed with SIGKILL and started empty, twice: devices fetch whole versions, then patches again."""
    spec = lab.spec(model=MODEL, codec={"down": "int8"}, dispatch={"concurrency": 2}, stop={"updates": 80})
    coordinator = lab.run(spec, "--blobs", f":{second.port}")
    for shard in (0, 1):
        lab.worker(f"worker-{shard}", shard=shard, delay=0.05)
    until(lambda: any(b":patch:" in name for name in _names(second)))
    with redis.Redis.from_url(lab.url) as client:
        assert not any(b":patch:" in name for name in client.scan_iter("fedtide:*"))
    for merges in (3, 15):
        until(lambda merges=merges: len([line for line in lab.history() if line["kind"] == "merge"]) > merges)
        second.kill()
        second.restart()
    assert coordinator.wait(60) == 0, coordinator.output
    summary = lab.summary()
    assert_identity(summary)
    assert (summary["merged"], summary["rejected"]) == (80, {})
    assert summary["bytes_down"] < 0.75 * 80 * 4 * SIZE
    assert not any(b":patch:" in name for name in _names(second))


def _names(server: EmbeddedServer) -> list[bytes]:
    with redis.Redis.from_url(server.url) as client:
        return list(client.scan_iter("fedtide:*"))


@pytest.mark.parametrize("strategy", ["fedbuff", "fedasync"])
def test_a_campaign_sends_patches(lab: Lab, strategy: str) -> None:
    """Real programs, one of which is killed and resumed: the way down is short, nothing is lost, a replay equal."""
    spec = lab.spec(
        model=MODEL,
        aggregation={"strategy": strategy},
        codec={"down": "int8"},
        dispatch={"concurrency": 2},
        checkpoint={"keep_log": True, "every_merges": 10},
        stop={"updates": 60},
    )
    coordinator = lab.run(spec)
    lab.worker("one", shard=0)
    lab.worker("two", shard=1, delay=0.02)
    until(lambda: len(lab.history()) > 15)
    coordinator.kill()
    again = lab.run(spec, "--resume", name="again")
    assert again.wait() == 0, again.output
    summary = lab.summary()
    assert_identity(summary)
    assert (summary["merged"], summary["rejected"]) == (60, {})
    assert summary["bytes_down"] < 0.75 * 60 * 4 * SIZE
    replayed = lab.ask("replay", str(lab.folder / "run"))
    assert replayed["equal"] is True
