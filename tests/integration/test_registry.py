"""The registry against a real server: finding campaigns, asking them for something, looking at queues."""

from __future__ import annotations

import dataclasses
import json

import msgpack
import pytest
import redis

from fl_core.broker import keys
from fl_core.broker.bulk.versions import order_commands
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.doorbell.message import ring_commands
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.overview.queues import WAIT_BOUNDS_SECONDS, Queues, QueueState
from fl_core.broker.overview.registry import Registry
from fl_core.broker.scripts import RECENT_WAITS_CHARACTERS
from fl_core.broker.task_rows import OpenRow
from fl_core.broker.tasks import TaskBroker
from fl_core.errors import CampaignError
from fl_core.wire.messages import TrainTask
from fl_core.wire.status import Status

TASK = TrainTask(
    campaign="digits-1",
    task_id="1-abc",
    attempt=1,
    queue="gpu",
    timeout_seconds=60.0,
    model_factory="a:b",
    model_args={},
    layout_digest="a" * 32,
    training={},
    codec="fp32",
    sends="delta",
)


def _campaigns(client: redis.Redis, *names: str) -> Registry:
    for created, name in enumerate(names):
        client.zadd(keys.CAMPAIGNS, {name: created})
        client.set(CampaignKeys(name).status, msgpack.packb({"state": "running", "versions": created}))
    return Registry(client)


# -- campaigns -----------------------------------------------------------------------------------------------------


def test_campaigns_are_listed_newest_first(client: redis.Redis) -> None:
    """Each with what its coordinator last said of it, and one that has said nothing yet with an empty status."""
    registry = _campaigns(client, "old", "middle", "new")
    client.delete(CampaignKeys("middle").status)
    found = [(name, status.state, status.versions) for name, status in registry.campaigns()]
    assert found == [("new", "running", 2), ("middle", "", 0), ("old", "running", 0)]
    client.flushall()
    assert registry.campaigns() == []


def test_a_campaign_is_found_by_what_people_type(client: redis.Redis) -> None:
    """Its id, an unambiguous beginning of it, or ``latest``; an id that is the beginning of another means itself."""
    registry = _campaigns(client, "digits-1", "digits-10", "iris-3")
    assert registry.find("digits-1") == "digits-1"
    assert registry.find("digits-10") == "digits-10"
    assert registry.find("iris") == "iris-3"
    assert registry.find("latest") == "iris-3"


def test_what_means_no_campaign_or_several_is_told(client: redis.Redis) -> None:
    """The sentence says what there is, so that the next try is right."""
    registry = Registry(client)
    with pytest.raises(CampaignError, match="the broker knows no campaign; launch one with"):
        registry.find("latest")
    _campaigns(client, "digits-1", "digits-2", "iris-3")
    with pytest.raises(CampaignError, match=r"^there is no campaign 'mnist'; the newest is 'iris-3', "):
        registry.find("mnist")
    with pytest.raises(CampaignError, match=r"^'digits' means 2 campaigns \(digits-2, digits-1\); write more"):
        registry.find("digits")


def test_the_one_that_still_goes_on_is_meant(client: redis.Redis) -> None:
    """Of several that begin so, the only one that has not ended is the one that somebody wants to steer."""
    registry = _campaigns(client, "digits-1", "digits-2", "digits-3")
    client.set(CampaignKeys("digits-1").status, msgpack.packb({"state": "finished"}))
    client.set(CampaignKeys("digits-3").status, msgpack.packb({"state": "stopped"}))
    assert registry.find("digits") == "digits-2"


def test_a_status_says_whether_somebody_coordinates(client: redis.Redis) -> None:
    """The holder of the lease stands beside what was last written; a campaign that nobody knows has neither."""
    registry = _campaigns(client, "digits-1")
    status = registry.status("digits-1")
    assert (status.state, status.versions, status.writer) == ("running", 0, None)
    client.set(CampaignKeys("digits-1").writer, "host:abcd")
    assert registry.status("digits-1").writer == "host:abcd"
    assert registry.status("nobody") == Status()


def test_a_status_of_another_form_is_empty(client: redis.Redis) -> None:
    """What is no map is not shown as one."""
    registry = _campaigns(client, "digits-1")
    client.set(CampaignKeys("digits-1").status, msgpack.packb([1, 2]))
    assert registry.campaigns() == [("digits-1", Status())]


def test_requests_wait_in_order(client: redis.Redis) -> None:
    """Also while no coordinator runs, what operators ask for is kept, in the order in which they asked."""
    registry = Registry(client)
    registry.request("digits-1", "pause")
    registry.request("digits-1", "readmit", "5-0")
    registry.request("digits-1", "stop")
    asked = [fields for _, fields in client.xrange(CampaignKeys("digits-1").control)]
    assert [(fields[b"request"], fields[b"argument"]) for fields in asked] == [
        (b"pause", b""),
        (b"readmit", b"5-0"),
        (b"stop", b""),
    ]


# -- queues --------------------------------------------------------------------------------------------------------


def test_queues_show_depth_age_and_counts(client: redis.Redis) -> None:
    """Doorbells as Celery writes them: how many wait, and how long the oldest has, by the server's clock."""
    seconds, micros = client.time()
    now_ms = seconds * 1000 + micros // 1000
    call = TASK.call
    for calls, age_ms in (([call], 7000), ([call, call], 1000)):
        for command in ring_commands(calls, now_ms - age_ms):
            client.execute_command(*command)
    client.hset(keys.QUEUE_COUNTS, mapping={"gpu:claimed": 2, "cpu:published": 1})
    cpu, gpu = Queues(client).read()
    assert cpu == QueueState(name="cpu", depth=0, oldest_seconds=0.0, published=1, claimed=0)
    assert (gpu.name, gpu.depth, gpu.published, gpu.claimed) == ("gpu", 3, 3, 2)
    assert 7.0 <= gpu.oldest_seconds < 12.0


def test_waits_are_counted_per_queue(client: redis.Redis) -> None:
    """Each claim adds its wait to its queue's histogram and to the recent ones, of which the oldest go."""
    broker, broker_keys = CampaignBroker(client, "digits-1"), keys.CampaignKeys("digits-1")
    client.hset(broker_keys.head, mapping={"version": 0, "digest": "ab" * 8, "num_bytes": 4, "num_chunks": 1})
    client.set(f"{broker_keys.version(0)}:0", b"1234")
    for command in order_commands(broker_keys, TASK.order.to_bytes()):
        client.execute_command(*command)
    seconds, micros = client.time()
    now_ms = seconds * 1000 + micros // 1000
    tasks = TaskBroker(client, "w")
    for index in range(300):
        task = dataclasses.replace(TASK, task_id=f"{index}-aa", queue="gpu" if index else "cpu")
        rows = [OpenRow(task.task_id, task.attempt, now_ms - 20_000 * (index < 150), task.queue)]
        for command in broker.open_commands(rows):
            client.execute_command(*command)
        assert tasks.claim(task, "").verdict == "ok"
    cpu, gpu = Queues(client).read()
    assert cpu.wait_quantile(0.95) == cpu.recent_waits[0] >= 20.0
    assert gpu.claimed == sum(gpu.wait_counts) == 299
    assert gpu.wait_counts[WAIT_BOUNDS_SECONDS.index(30.0)] == 149
    assert 149 * 20 <= gpu.wait_seconds < 299 * 30
    assert 100 <= len(gpu.recent_waits) < 299
    assert client.hstrlen(keys.QUEUE_COUNTS, "gpu:recent") <= RECENT_WAITS_CHARACTERS
    assert gpu.wait_quantile(0.05) < 10.0


def test_rubbish_in_the_counts_is_none(client: redis.Redis) -> None:
    """Workers write there: what is no number counts as nothing."""
    client.hset(keys.QUEUE_COUNTS, mapping={"gpu:published": "x", "gpu:recent": b"\xff,7,-1", "gpu:waited_ms": "1e9"})
    (gpu,) = Queues(client).read()
    assert (gpu.published, gpu.recent_waits, gpu.wait_seconds) == (0, (0.0, 0.007, 0.0), 0.0)


@pytest.mark.parametrize(
    "message",
    [b"", b"rubbish", b"[]", b"{}", b'{"headers": null}', b'{"headers": {"published_ms": "soon"}}', b"\xff\xfe"],
)
def test_a_message_that_is_not_ours_has_no_age(client: redis.Redis, message: bytes) -> None:
    """Whatever stands in a queue, looking at it does not fail."""
    client.hset(keys.QUEUE_COUNTS, "gpu:published", 1)
    client.lpush(keys.train_queue("gpu"), message)
    (gpu,) = Queues(client).read()
    assert (gpu.depth, gpu.oldest_seconds) == (1, 0.0)


def test_a_message_from_a_clock_ahead_of_ours_is_new(client: redis.Redis) -> None:
    """An age is never negative."""
    client.hset(keys.QUEUE_COUNTS, "gpu:published", 1)
    client.lpush(keys.train_queue("gpu"), json.dumps({"headers": {"published_ms": 9e15}}))
    assert Queues(client).read()[0].oldest_seconds == 0.0


def test_looking_changes_nothing(client: redis.Redis) -> None:
    """Everything but a request is read-only."""
    registry = _campaigns(client, "digits-1")
    client.hset(keys.QUEUE_COUNTS, "gpu:published", 1)
    client.lpush(keys.train_queue("gpu"), b"{}")
    before = {key: client.dump(key) for key in client.keys("*")}
    registry.campaigns(), registry.find("latest"), registry.status("digits-1"), Queues(client).read()
    assert {key: client.dump(key) for key in client.keys("*")} == before


def test_a_message_that_is_too_long_is_not_fetched(client: redis.Redis) -> None:
    """Its queue is shown without an age, and its bytes stay where they are; long queues of ours have one."""
    client.hset(keys.QUEUE_COUNTS, mapping={"cpu:published": 1, "gpu:published": 300})
    client.lpush(keys.train_queue("cpu"), b"x" * 20_000_000)
    for command in ring_commands([dataclasses.replace(TASK, task_id=f"{n}-abc").call for n in range(300)], 1_000):
        client.execute_command(*command)
    before = client.info("stats")["total_net_output_bytes"]
    cpu, gpu = Queues(client).read()
    assert client.info("stats")["total_net_output_bytes"] - before < 1_000_000
    assert (cpu.depth, cpu.oldest_seconds) == (1, 0.0)
    assert gpu.depth == 300
    assert gpu.oldest_seconds > 1e6
