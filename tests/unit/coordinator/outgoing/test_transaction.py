"""What a turn writes: in parts that the server takes in its stride, each of which leaves the broker in order."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from coordinator.campaign.ledger import OpenTask
from coordinator.outgoing.transaction import MAX_TASKS, Transaction
from fl_core.broker.doorbell.removal import remove_doorbells
from fl_core.broker.keys import CampaignKeys, train_queue
from fl_core.broker.lease import Unanswered
from fl_core.clock import MACHINE
from fl_core.errors import BrokerUnavailable
from tests.unit.coordinator.stand_ins import IDENTITY, Recorder, context

KEYS = CampaignKeys(IDENTITY.campaign)


@pytest.fixture
def writer(client: redis.Redis) -> Recorder:
    return Recorder(client)


@pytest.fixture
def transaction(client: redis.Redis, writer: Recorder) -> Transaction:
    return Transaction(context(client, machine=MACHINE, writer=writer))


def _count(commit: list[Any], name: str) -> int:
    return sum(command[0] == name for command in commit)


def test_many_tasks_are_written_a_part_at_a_time(
    client: redis.Redis, writer: Recorder, transaction: Transaction
) -> None:
    """The event first; no part is large; and whoever answers a doorbell finds its task's row."""
    count = 5 * MAX_TASKS + 3
    transaction.issue(["default"] * count)
    transaction.commit()
    assert [_count(commit, "XADD") for commit in writer.batches] == [1, 0, 0, 0, 0, 0]
    assert max(len(commit) for commit in writer.batches) <= MAX_TASKS + 10
    assert (client.hlen(KEYS.open_tasks), client.llen(train_queue("default"))) == (
        count,
        count,
    )
    rows: set[str] = set()
    for commit in writer.batches:
        rows |= {word for command in commit if command[0] == "HSET" for word in command[2::2]}
        rung = [command[2] for command in commit if command[0] == "LPUSH"]
        assert all(any(row.encode() in message for row in rows) for message in rung[:3])
    assert transaction.is_empty


def test_a_doorbell_waits_for_its_row(client: redis.Redis, writer: Recorder, transaction: Transaction) -> None:
    """Rows that are opened without a ring before it do not let the ring overtake its own row."""
    tasks = [OpenTask(number, 1, 0, "default", 0) for number in range(1, 3 * MAX_TASKS)]
    transaction.open(tasks)
    transaction.ring(tasks[-1:])
    transaction.commit()
    assert [_count(commit, "LPUSH") for commit in writer.batches] == [0, 0, 1]


def test_a_task_that_ended_is_not_opened_any_more(
    client: redis.Redis, writer: Recorder, transaction: Transaction
) -> None:
    """Opened and closed in one turn: no row stays that nobody would close."""
    task = OpenTask(1, 2, 0, "default", 0)
    transaction.open([task])
    transaction.close([1])
    transaction.commit()
    assert client.exists(KEYS.open_tasks) == 0
    transaction.close([1])
    transaction.open([task])
    transaction.commit()
    assert client.hlen(KEYS.open_tasks) == 1


@pytest.mark.parametrize("failure", [BrokerUnavailable("away"), Unanswered("away")])
def test_a_part_that_failed_is_written_at_the_next_commit(
    client: redis.Redis, writer: Recorder, transaction: Transaction, failure: Exception
) -> None:
    """Nothing is left out and nothing is doubled when the broker is away between two parts."""
    transaction.issue(["default"] * (3 * MAX_TASKS))
    writer.failures = [failure, None]
    with pytest.raises(BrokerUnavailable):
        transaction.commit()
    assert not transaction.is_empty
    transaction.commit()
    assert client.hlen(KEYS.open_tasks) == 3 * MAX_TASKS
    assert client.llen(train_queue("default")) == 3 * MAX_TASKS
    assert client.xlen(KEYS.log) == 1


def test_the_doorbells_of_a_campaign_are_removed_and_no_others(client: redis.Redis, transaction: Transaction) -> None:
    """However many there are, and wherever the others stand between them."""
    transaction.issue(["default"] * 2500)
    transaction.commit()
    queue, others = train_queue("default"), [b'{"headers":{"id":"digits-11/1-a#1/x"}}', b"rubbish", b"last"]
    client.rpush(queue, others[0])
    client.linsert(queue, "BEFORE", others[0], others[1])
    client.lpush(queue, others[2])
    remove_doorbells(client, IDENTITY.campaign, ["default"], limit=10_000)
    assert sorted(client.lrange(queue, 0, -1)) == sorted(others)
