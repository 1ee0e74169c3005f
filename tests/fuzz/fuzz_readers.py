"""Hostile bytes against what reads a broker's keys and queues: rows, statuses, beats and doorbells.

Whatever they hold, a reader gives a value that can be written as JSON, or refuses with the one error that its callers
expect.
"""

from __future__ import annotations

import base64
import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import msgpack

from fl_core.broker import rows
from fl_core.broker.doorbell.message import ring_commands
from fl_core.broker.doorbell.rewriting import rewrite
from fl_core.broker.overview.status import read_status
from fl_core.errors import RejectedUpdate
from fl_core.wire.feed_lines import WorkerLine, feed_line
from fl_core.wire.mapped import BadMap
from fl_core.wire.messages import Beat, TaskCall
from tests.fuzz.fuzz_admission import VALUES

NAMES = (
    "campaign", "state", "merged", "rejected", "queues", "timing", "staleness_histogram", "worker", "body", "headers",
    "properties", "content-type", "task", "holding", "bytes_up", "x" * 600, "\ud800", "",
)  # fmt: skip

CALL = TaskCall(campaign="a-1", task_id="1-abc", attempt=1, queue="default")
BEAT = Beat(
    worker="pi", state="idle", queues=("default",), holding="", host="h", pid=1, started_ms=1, threads=1, device="cpu",
    num_done=1, num_failed=0, bytes_up=1, bytes_down=1,
)  # fmt: skip
# The doorbell itself is the last word of the command that pushes it.
BELL = next(words[-1] for words in ring_commands([CALL], 1) if b"body" in bytes(words[-1]))
LINE = msgpack.packb(WorkerLine(seconds=1.0, worker="pi", event="joined").to_map())
GENUINE = (CALL.to_bytes(), BEAT.to_bytes(), BELL, LINE, b"5-10", b"1|2|3", b"12")


def _readers() -> dict[str, Callable[[bytes], Any]]:
    return {
        "text": rows.text, "name": rows.name, "number": rows.number, "position": rows.position, "plain": rows.plain,
        "parts": lambda raw: [part.hex() for part in rows.parts(raw, 3)],
        "status": lambda raw: read_status(raw).to_row("a"),
        "feed line": lambda raw: feed_line(rows.plain(raw)).to_map(),
        "beat": lambda raw: Beat.from_bytes(raw).worker,
        "task call": lambda raw: TaskCall.from_bytes(raw).task_id,
        "doorbell": lambda raw: len(rewrite(raw, "default")),
    }  # fmt: skip


def _value(draw: random.Random, depth: int = 0) -> Any:
    chosen = draw.randrange(4 if depth < 4 else 1)
    if chosen == 1:
        return [_value(draw, depth + 1) for _ in range(draw.randrange(4))]
    if chosen >= 2:
        return {draw.choice(NAMES): _value(draw, depth + 1) for _ in range(draw.randrange(6))}
    return draw.choice(VALUES)


def _message(draw: random.Random) -> bytes:
    match draw.randrange(6):
        case 0:
            return draw.randbytes(draw.randrange(200))
        case 1:
            return b"|".join(draw.choice((b"1", b"-1", b"9" * 30, b"\xff", b"a-b", b"")) for _ in range(3))
        case 2:
            return json.dumps(_value(draw), default=repr).encode("utf-8", "surrogatepass")
        case 3:
            body = base64.b64encode(msgpack.packb(_value(draw), unicode_errors="surrogatepass")).decode()
            message = {"body": body, "headers": _value(draw), "properties": _value(draw)}
            return json.dumps(message, default=repr).encode()
        case 4:
            genuine = bytearray(draw.choice(GENUINE))
            for _ in range(draw.randrange(3)):
                genuine[draw.randrange(len(genuine))] = draw.randrange(256)
            return bytes(genuine)
        case _:
            packed = msgpack.packb(_value(draw), unicode_errors="surrogatepass")
            return packed[: draw.randrange(len(packed)) + 1]


def fuzz(seconds: float, seed: int) -> dict[str, int]:
    """Attack until the time is over; per reader, how often it gave a value.

    Raises:
        Exception: whatever got through; the seed finds it again.
    """
    draw, read = random.Random(seed), _readers()
    given = {"messages": 0, **dict.fromkeys(read, 0)}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        message = _message(draw)
        given["messages"] += 1
        for name, reader in read.items():
            try:
                json.dumps(reader(message), allow_nan=False)
            except (rows.BadRow, BadMap, RejectedUpdate):
                continue
            given[name] += 1
    return given


if __name__ == "__main__":
    chosen = int(os.environ.get("FUZZ_SEED", "0")) or int(time.time())
    print(f"seed {chosen}", file=sys.stderr)
    print(json.dumps(fuzz(float(os.environ.get("FUZZ_SECONDS", "60")), chosen)))
