"""A message of a queue, read as hostile: the bytes of one ``TaskCall``, and a message for Celery that is made of them.

Anyone who can write to a queue can put anything there, and Celery believes its messages: one that is no JSON ends a
worker, and one that is may name another serializer, a time in 2099, or tasks to publish afterwards.
"""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

import msgpack

from fl_core.broker.doorbell.message import TRAIN
from fl_core.errors import Reason, RejectedUpdate
from fl_core.wire.messages import TaskCall

# A call in base64, and more than Celery writes around it.
MAX_MESSAGE_BYTES = 4 * TaskCall.max_bytes
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_HEADERS = {
    "lang": "py",
    "task": TRAIN,
    "parent_id": None,
    "group": None,
    "retries": 0,
    "eta": None,
    "expires": None,
    "timelimit": [None, None],
    "kwargsrepr": "{}",
    "origin": "",
    "ignore_result": True,
}


def rewrite(message: bytes, queue: str) -> dict[str, Any]:
    """A message as Celery wants it, of which every word is ours but the call.

    Args:
        message: as it was on the queue.
        queue: the queue's key, where the message goes back to if this worker stops before it begins.

    Raises:
        RejectedUpdate: it holds no call (malformed); the text shows nothing of the message.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise _foreign(f"it has {len(message)} bytes, and a doorbell at most {MAX_MESSAGE_BYTES}")
    try:
        fields = json.loads(message)
        headers = fields["headers"]
        name, form, published_ms = headers["task"], fields["content-type"], headers.get("published_ms")
        args, _, _ = msgpack.unpackb(base64.b64decode(fields["body"], validate=True))
        (order,) = args
    except Exception as error:  # whatever a parser makes of bytes that are not its own
        raise _foreign(f"it is no message of fedtide's ({type(error).__name__})") from None
    if name != TRAIN or form != "application/x-msgpack" or not isinstance(order, bytes):
        raise _foreign("it is a message for another program")
    task = TaskCall.from_bytes(order)
    name = f"{task.campaign}/{task.task_id}#{task.attempt}/{secrets.token_hex(4)}"
    return {
        "body": base64.b64encode(msgpack.packb([[order], {}, _EMBED])).decode(),
        "content-type": "application/x-msgpack",
        "content-encoding": "binary",
        "headers": {
            **_HEADERS,
            "id": name,
            "root_id": name,
            "argsrepr": f"({task.campaign} {task.task_id}#{task.attempt})",
            "campaign": task.campaign,
            "published_ms": published_ms if type(published_ms) is int and 0 <= published_ms < 2**53 else 0,
        },
        "properties": {
            "correlation_id": name,
            "delivery_tag": secrets.token_hex(16),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
        },
    }


def _foreign(why: str) -> RejectedUpdate:
    return RejectedUpdate(Reason.MALFORMED, why)
