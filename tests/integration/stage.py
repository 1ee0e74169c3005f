"""A campaign in this process, on a server that a test can do anything to: a real coordinator, and one played device."""

from __future__ import annotations

import base64
import json
import threading
import time
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import redis

from coordinator.campaign.identity import Identity
from coordinator.launch.assemble import coordinating
from coordinator.launch.options import Callbacks, LaunchOptions
from coordinator.loop.coordinator import Coordinator
from coordinator.storage.run_folder import RunFolder
from fl_core.broker import keys
from fl_core.broker.connection import connect
from fl_core.broker.overview.roster import Roster
from fl_core.broker.tasks import TaskBroker
from fl_core.errors import BrokerUnavailable, MissingBlob
from fl_core.spec import parse_spec
from fl_core.wire.digest import digest
from fl_core.wire.messages import Beat, ModelUpdate, TaskCall, holding_name
from fl_core.wire.status import Status
from tests.integration.lab import until

WORKER = "played"
MODEL = {"factory": "fl_core.models:mlp", "args": {"inputs": 4, "hidden": [], "classes": 2}}


class Device:
    """Answers every task at once with a delta of zeros, in a thread; ``idle`` makes it leave doorbells alone.

    Attributes:
        taken: what it has answered.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.idle = threading.Event()
        self.taken: list[TaskCall] = []
        self._thread.start()

    def close(self) -> None:
        self._ends.set()
        self._thread.join(10)

    def _work(self) -> None:
        client = connect(self._url)
        broker, roster = TaskBroker(client, WORKER), Roster(client)
        while not self._ends.wait(0.01):
            try:
                roster.beat(beat())
                message = None if self.idle.is_set() else client.rpop(keys.train_queue("default"))
                if message is not None:
                    call = call_of(message)
                    if answer(broker, call):
                        self.taken.append(call)
            except (BrokerUnavailable, redis.RedisError):
                self._ends.wait(0.1)


def call_of(message: bytes) -> TaskCall:
    """What a doorbell says."""
    return TaskCall.from_bytes(msgpack.unpackb(base64.b64decode(json.loads(message)["body"]))[0][0])


def answer(broker: TaskBroker, call: TaskCall, **changes: Any) -> bool:
    """Claim a task, fetch the version and deliver an update for it; False where it cannot be claimed."""
    while True:
        claim = broker.claim(call, "")
        task = claim.task
        if claim.head is None or task is None:
            return False
        try:
            broker.fetch(task, claim.head)
            break
        except MissingBlob:
            time.sleep(0.1)
    payload = np.zeros(claim.head.num_bytes // 4, np.float32).tobytes()
    update = ModelUpdate(
        campaign=task.campaign, task_id=task.task_id, attempt=task.attempt, worker=WORKER,
        base_version=claim.head.version, num_examples=1, sends=task.sends, codec=task.codec,
        layout_digest=task.layout_digest, payload_bytes=len(payload), payload_digest=digest(payload),
        blob="", num_chunks=0, bytes_down=0, metrics={}, seconds={},
    )  # fmt: skip
    return broker.deliver(update, payload)


def beat(task: TaskCall | None = None) -> Beat:
    """A sign of life of the played device."""
    holding = "" if task is None else holding_name(task.campaign, task.task_id, task.attempt)
    return Beat(
        worker=WORKER, queues=("default",), state="training" if holding else "idle", holding=holding, host="here",
        pid=1, started_ms=0, threads=1, device="cpu", num_done=0, num_failed=0, bytes_up=0, bytes_down=0,
    )  # fmt: skip


class Stage:
    """A coordinator in a thread of its own.

    Attributes:
        error: what it ended with, if that was an exception.
        progress: the last one that it told.
    """

    def __init__(self, url: str, folder: Path, *, resume: bool = False, **sections: dict[str, Any]) -> None:
        self.client = redis.Redis.from_url(url)
        self.url = url
        self.error: BaseException | None = None
        self.progress: Status | None = None
        self.identity: Identity
        self.coordinator: Coordinator
        defaults: dict[str, Any] = {
            "campaign": {"name": "staged", "seed": 1},
            "model": MODEL,
            "aggregation": {"buffer_size": 2},
            "dispatch": {"concurrency": 8, "lease_seconds": 2.0},
        }
        self._spec = parse_spec({**defaults, **sections})
        self._folder = RunFolder(folder)
        self._resume = resume
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(30)
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            # Untried: beside this thread a trial would be a new interpreter.
            options = LaunchOptions(resume=self._resume, trial_seconds=0.0)
            told = Callbacks(on_progress=self._told)
            with coordinating(self._spec, self.url, self._folder, options, told) as coordinator:
                self.identity = coordinator.identity
                self.coordinator = coordinator
                self._ready.set()
                coordinator.run()
        except BaseException as error:
            self.error = error
            self._ready.set()

    def _told(self, progress: Status) -> None:
        self.progress = progress

    @property
    def keys(self) -> keys.CampaignKeys:
        return keys.CampaignKeys(self.identity.campaign)

    @property
    def merged(self) -> int:
        return 0 if self.progress is None else self.progress.merged

    @property
    def issued(self) -> int:
        return 0 if self.progress is None else self.progress.issued

    def assert_alive(self, seconds: float = 20) -> None:
        """It merges, and none of the tasks that are out now stays: no slot is dead."""
        issued, merged = self.issued, self.merged

        def moved_on() -> bool:
            assert self.error is None, self.error
            out = [int(name.partition(b"-")[0]) for name in self.client.hkeys(self.keys.open_tasks)]
            return self.merged > merged and bool(out) and min(out) > issued

        until(moved_on, seconds)

    def stop(self, seconds: float = 20) -> dict[str, Any]:
        """Ask it to stop, as an operator does, and give the summary."""
        self.client.xadd(self.keys.control, {"request": "stop"})
        return self.finish(seconds)

    def finish(self, seconds: float = 20) -> dict[str, Any]:
        """Wait for its end, and give the summary."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "it does not end"
        assert self.error is None, self.error
        summary: dict[str, Any] = json.loads(self._folder.summary.read_text())
        return summary

    def interrupt(self, seconds: float = 20) -> None:
        """Ctrl-C."""
        self.coordinator.interrupt()
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "it is deaf to Ctrl-C"


class Snapshot:
    """All that a server holds, to be put back later: it then is as old as this."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        with client.pipeline() as pipeline:
            names = client.keys("*")
            for name in names:
                pipeline.dump(name)
                pipeline.pttl(name)
            answers = pipeline.execute()
        self._rows = [row for row in zip(names, answers[::2], answers[1::2], strict=True) if row[1] is not None]

    def restore(self) -> None:
        with self._client.pipeline() as pipeline:
            pipeline.flushdb()
            for name, packed, ttl in self._rows:
                pipeline.restore(name, max(0, ttl), packed)
            pipeline.execute()
