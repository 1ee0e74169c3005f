"""A worker whose queue holds what does not belong there: it goes on, says so, and does nothing of what it is told."""

from __future__ import annotations

import json
import pickle
import signal
from pathlib import Path
from typing import Any

from fl_core.broker import keys
from fl_core.broker.connection import connect
from fl_core.broker.doorbell.app import make_app
from fl_core.broker.doorbell.intake import MAX_TRANSFER_BYTES
from tests.integration.lab import Lab, until
from tests.unit.fl_core.broker.doorbell.test_rewriting import CALLED, FOREIGN, _bell, _body


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def peak_bytes(process: int) -> int:
    """The most memory that it has ever had."""
    (line,) = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_a_worker_outlives_whatever_is_on_its_queues(lab: Lab) -> None:
    """Foreign messages, damaged ones, a huge one, of which it takes no more than the beginning: one worker takes all
    and then trains on; nothing is published."""
    mark = lab.folder / "owned"
    queue = keys.train_queue("default")
    chain: Any = {name: [{"task": "evil", "args": []}] for name in ("callbacks", "errbacks", "chain", "chord")}
    foreign = [
        b"\0" * 60_000_000,
        *FOREIGN.values(),
        _bell(pickle.dumps(([_Touch(mark)], {}, {})), **{"content-type": "application/x-python-serialize"}),
    ]
    # A call nobody waits for, which its message would have done later, never, or with consequences.
    odd = [
        _bell(_body(CALLED), headers={"eta": "2099-01-01T00:00:00+00:00"}),
        _bell(_body(CALLED), headers={"eta": "yesterday", "expires": "soon", "retries": "x"}),
        _bell(_body(CALLED), headers={"expires": "2001-01-01T00:00:00+00:00", "timelimit": [0.001, 0.001]}),
        _bell(_body(CALLED, embed=chain), properties={"reply_to": "evil", "delivery_info": {"exchange": "evil"}}),
    ]
    client = connect(lab.url)
    worker = lab.worker("steady", "--celery-events")
    worker.wait_for("worker is ready")
    for message in (b"[]", b"17", b"garbage", b"[" * 50_000, json.dumps({"body": {}}).encode()):
        client.publish("/0.celery.pidbox", message)  # all that listen to remote control
    for command in ("shutdown", "pool_shrink", "cancel_consumer", "revoke"):
        make_app(lab.url, celery_events=True).control.broadcast(command, arguments={"queue": queue, "n": 1})
    before = peak_bytes(worker.process.pid)
    for message in [*foreign, *odd]:
        client.lpush(queue, message)
    until(lambda: client.llen(queue) == 0)
    lab.run(lab.spec(stop={"updates": 6})).wait()
    assert lab.summary()["merged"] >= 6
    assert worker.process.poll() is None, worker.output[-3000:]
    assert "a message that is no doorbell was dropped" in worker.output
    assert worker.output.count("is no doorbell") < len(foreign)
    assert len(worker.output) < 50_000
    assert f"a reply of more than {MAX_TRANSFER_BYTES} bytes" in worker.output
    assert "Connection to broker lost" not in worker.output
    assert peak_bytes(worker.process.pid) - before < 40_000_000
    assert not mark.exists()
    left = {key.decode() for key in client.keys("*")}
    assert not [key for key in left if "evil" in key or not key.startswith(("fedtide", "_kombu."))], left
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
