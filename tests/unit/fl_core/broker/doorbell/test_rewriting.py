"""What a worker takes from its queues: an order, and no other word of whoever wrote the message."""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.broker.doorbell.message import TRAIN, is_of, ring_commands
from fl_core.broker.doorbell.rewriting import MAX_MESSAGE_BYTES, rewrite
from fl_core.broker.keys import train_queue
from fl_core.errors import Reason, RejectedUpdate
from fl_core.wire.messages import TaskCall

CALL = TaskCall(campaign="digits-1", task_id="1-abc", attempt=2, queue="gpu")
QUEUE = train_queue("gpu")
BELL = next(words[2] for words in ring_commands([CALL], 1234) if words[0] == "LPUSH")
CALLED = CALL.to_bytes()


def _bell(body: Any = None, **changes: Any) -> bytes:
    """The doorbell with other fields, and a body of other content."""
    message = json.loads(BELL)
    headers = changes.pop("headers", {})
    if isinstance(headers, dict):
        headers = {**message["headers"], **headers}
    if body is not None:
        message["body"] = base64.b64encode(body).decode()
    return json.dumps({**message, "headers": headers, **changes}).encode()


def _body(*args: Any, embed: Any = None) -> bytes:
    packed: bytes = msgpack.packb([list(args), {}, embed or {}])
    return packed


def test_a_doorbell_comes_through_and_can_go_back_on_its_queue() -> None:
    """The call is the coordinator's to the bit, and what was made of it is a doorbell again, with its age."""
    made = rewrite(BELL, QUEUE)
    args, kwargs, embed = msgpack.unpackb(base64.b64decode(made["body"]))
    assert (args, kwargs, set(embed.values())) == ([CALLED], {}, {None})
    assert made["headers"]["published_ms"] == 1234
    assert made["properties"]["delivery_info"] == {"exchange": "", "routing_key": QUEUE}
    again = rewrite(json.dumps(made).encode(), QUEUE)
    assert msgpack.unpackb(base64.b64decode(again["body"]))[0] == [CALLED]
    assert again["headers"].keys() == made["headers"].keys()
    for message in (BELL, json.dumps(made).encode()):
        assert is_of("digits-1", message)
        assert not is_of("digits", message)


def test_a_doorbell_is_small() -> None:
    """A hundred thousand may wait: each says which task, and no more."""
    assert len(BELL) < 300


def test_no_other_word_of_a_message_comes_through() -> None:
    """Times, callbacks, reply queue, ids and delivery tag are ours: Celery neither waits nor publishes nor answers."""
    evil = "evil-" + "x" * 8
    embed = {name: [{"task": evil}] for name in ("callbacks", "errbacks", "chain", "chord")}
    headers = {
        "id": evil, "root_id": evil, "parent_id": evil, "group": evil, "eta": "2099-01-01T00:00:00+00:00",
        "expires": evil, "timelimit": [evil, evil], "retries": evil, "origin": evil, "argsrepr": evil,
        "published_ms": evil, "compression": evil, "stamps": {evil: evil}, evil: evil,
    }  # fmt: skip
    properties = {"reply_to": evil, "correlation_id": evil, "delivery_tag": evil, "delivery_info": {"exchange": evil}}
    made = rewrite(_bell(_body(CALLED, embed=embed), headers=headers, properties=properties, evil=evil), QUEUE)
    assert evil not in json.dumps(made)
    assert evil.encode() not in base64.b64decode(made["body"])
    assert (made["headers"]["eta"], made["headers"]["expires"], made["headers"]["timelimit"]) == (
        None,
        None,
        [None, None],
    )


FOREIGN = {
    "empty": b"",
    "not json": b"\x80\x81 garbage",
    "not utf-8": b'{"headers": "\xff\xfe"}',
    "a list": b"[1,2,3]",
    "a number": b"17",
    "null": b"null",
    "a number of many digits": b"1" * 10_000,
    "deep lists": b"[" * 100_000,
    "deep maps": b'{"a":' * 40_000,
    "nothing in it": b"{}",
    "no headers": json.dumps({"body": "", "properties": {}}).encode(),
    "headers are a list": _bell(headers=[]),
    "headers are text": _bell(headers="task"),
    "another task": _bell(headers={"task": "evil.task"}),
    "a task that is a list": _bell(headers={"task": [TRAIN]}),
    "pickle": _bell(pickle.dumps(([CALLED], {}, {})), **{"content-type": "application/x-python-serialize"}),
    "json inside": _bell(b"[[], {}, {}]", **{"content-type": "application/json"}),
    "no base64": BELL.replace(b'"body":"', b'"body":"***'),
    "a body that is a map": json.dumps({**json.loads(BELL), "body": {}}).encode(),
    "no msgpack": _bell(b"\xc1\xff"),
    "deep msgpack": _bell(b"\x91" * 100_000),
    "more msgpack than is there": _bell(b"\xdd\xff\xff\xff\xff"),
    "no argument": _bell(_body()),
    "two arguments": _bell(_body(CALLED, CALLED)),
    "a number as argument": _bell(_body(5)),
    "text as argument": _bell(_body("order")),
    "bytes that are no order": _bell(_body(b"not a task")),
    "an order of another form": _bell(_body(msgpack.packb({**msgpack.unpackb(CALLED), "more": 1}))),
    "huge": b"\0" * (MAX_MESSAGE_BYTES + 1),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_doorbell_is_refused_without_showing_it(name: str) -> None:
    """One reason in a few words, whatever the message is."""
    with pytest.raises(RejectedUpdate) as caught:
        rewrite(FOREIGN[name], QUEUE)
    assert caught.value.reason is Reason.MALFORMED
    assert len(caught.value.detail) < 300
    assert "garbage" not in caught.value.detail


@given(
    st.one_of(st.binary(max_size=300), st.integers(0, len(BELL) - 1).map(lambda i: BELL[:i] + b"\x00" + BELL[i + 1 :]))
)
def test_no_bytes_raise_anything_else(message: bytes) -> None:
    """Random bytes, and a doorbell with one byte damaged, are an order or are refused."""
    with contextlib.suppress(RejectedUpdate):
        rewrite(message, QUEUE)
