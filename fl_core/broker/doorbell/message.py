"""Doorbells: Celery messages that wake a worker, written by the coordinator's own transaction.

Publishing through Celery costs half a millisecond of Python and a round trip per task, and lies outside the transaction
that records the task. So these are made here, and hold as little as they can: a hundred thousand may wait on a queue.
They say which task; how it is done is written once (``TrainOrder``), and the rest of what Celery wants of a message a
worker puts to it (``rewriting.py``).
"""

from __future__ import annotations

import base64
import json
import secrets
from collections import Counter
from collections.abc import Iterable

import msgpack

from fl_core.broker import keys
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.lease import Command
from fl_core.wire.messages import TaskCall

TRAIN = "fedtide.train"


def ring_commands(calls: Iterable[TaskCall], published_ms: int) -> list[Command]:
    """The Redis commands that put each task's doorbell on its queue, and count it there.

    A task that is rung for twice is harmless: the second worker finds it claimed.

    Args:
        calls: the tasks.
        published_ms: the server's clock, from which monitors take the queue's age.
    """
    commands: list[Command] = []
    counts: Counter[str] = Counter()
    for call in calls:
        counts[call.queue] += 1
        commands.append(["LPUSH", keys.train_queue(call.queue), _message(call, published_ms)])
    return commands + [["HINCRBY", keys.QUEUE_COUNTS, f"{queue}:published", str(n)] for queue, n in counts.items()]


def pass_on(client: Client, call: TaskCall) -> None:
    """Put a doorbell back at the end of its queue: it was taken by a device that cannot do this task now.

    Raises:
        BrokerError: it was not put there.
    """
    with broker_errors("passing a doorbell on"):
        seconds, micros = client.time()
        client.quick("LPUSH", keys.train_queue(call.queue), _message(call, seconds * 1000 + micros // 1000))


def is_of(campaign: str, message: bytes) -> bool:
    """Whether a message on a queue is a doorbell of this campaign."""
    return f'"{campaign}/'.encode() in message


def read_call(message: bytes) -> TaskCall:
    """Which task a doorbell of ours rings for.

    Raises:
        RejectedUpdate, ValueError: it is none of ours.
    """
    ((call,), _, _) = msgpack.unpackb(base64.b64decode(json.loads(message)["body"]))
    return TaskCall.from_bytes(call)


def _message(call: TaskCall, published_ms: int) -> bytes:
    name = f"{call.campaign}/{call.task_id}#{call.attempt}/{secrets.token_hex(4)}"
    message = {
        "body": base64.b64encode(msgpack.packb([[call.to_bytes()], {}, None])).decode(),
        "content-type": "application/x-msgpack",
        "headers": {"task": TRAIN, "id": name, "published_ms": published_ms},
    }
    return json.dumps(message, separators=(",", ":")).encode()
