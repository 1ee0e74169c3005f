"""Doorbells: Celery messages that wake a worker, written by the coordinator's own transaction.

Publishing through Celery costs half a millisecond of Python and a round trip per task, and lies outside the transaction
that records the task. So Celery makes one message per queue, into its in-memory transport; each task's message is that
one with its own ids and body. Workers read it as any other Celery message.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgpack
from celery import Celery

from fl_core.broker import keys
from fl_core.broker.lease import Command
from fl_core.errors import InvariantError
from fl_core.messages import TrainTask

TRAIN = "fedtide.train"


class Doorbell:
    """Makes the commands that publish tasks on their queues."""

    def __init__(self) -> None:
        self._templates: dict[str, dict[str, Any]] = {}

    def commands(self, tasks: Iterable[TrainTask], published_ms: int) -> list[Command]:
        """Publish each task on its queue, and count it there.

        A task that is published twice is harmless: the second worker finds it claimed.

        Args:
            tasks: the tasks to publish.
            published_ms: the server's clock, from which monitors take the queue's age.
        """
        commands: list[Command] = []
        counts: Counter[str] = Counter()
        for task in tasks:
            counts[task.queue] += 1
            commands.append(["LPUSH", keys.train_queue(task.queue), self._message(task, published_ms)])
        return commands + [["HINCRBY", keys.QUEUE_COUNTS, f"{queue}:published", str(n)] for queue, n in counts.items()]

    def _message(self, task: TrainTask, published_ms: int) -> bytes:
        template = self._templates.get(task.queue)
        if template is None:
            template = self._templates[task.queue] = _make_template(keys.train_queue(task.queue))
        name = f"{task.campaign}/{task.task_id}#{task.attempt}/{secrets.token_hex(4)}"
        headers = {
            **template["headers"],
            "id": name,
            "root_id": name,
            "argsrepr": f"({task.campaign} {task.task_id}#{task.attempt})",
            "campaign": task.campaign,
            "published_ms": published_ms,
        }
        properties = {**template["properties"], "correlation_id": name, "delivery_tag": secrets.token_hex(16)}
        body = msgpack.packb([[task.to_bytes()], {}, template["embed"]])
        message = {
            **template["message"],
            "body": base64.b64encode(body).decode(),
            "headers": headers,
            "properties": properties,
        }
        return json.dumps(message, separators=(",", ":")).encode()


def _make_template(queue: str) -> dict[str, Any]:
    """Let Celery make one message for this queue, and take it apart.

    Raises:
        InvariantError: this version of Celery makes messages of another form.
    """
    app = Celery("fedtide", broker="memory://", set_as_current=False)
    app.conf.update(task_serializer="msgpack", accept_content=["msgpack"], task_ignore_result=True)
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        app.send_task(
            TRAIN, args=(b"",), queue=queue, argsrepr="", kwargsrepr="{}", ignore_result=True, producer=producer
        )
        with connection.channel() as channel:
            message = channel._get(queue)
    app.close()
    properties = message.pop("properties")
    if properties.get("body_encoding") != "base64" or "id" not in message["headers"]:
        raise InvariantError(
            "Celery's messages have changed their form; fedtide needs another version of celery or kombu."
        )
    _, _, embed = msgpack.unpackb(base64.b64decode(message.pop("body")))
    return {"headers": message.pop("headers"), "properties": properties, "embed": embed, "message": message}
