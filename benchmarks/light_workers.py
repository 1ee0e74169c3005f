"""Many workers in one process: everything that a worker does at the broker, and nothing that it does on its device.

Each one beats, pops doorbells from the Celery queue when it is free, claims, receives the newest version, waits for as
long as training would take, and delivers an update that is all zeros. They share one connection and one thread.
"""

from __future__ import annotations

import base64
import heapq
import itertools
import json
import os
import random
import sys
import time

import msgpack

from fl_core.broker.bulk.head import Head
from fl_core.broker.connection import Client, connect
from fl_core.broker.keys import train_queue
from fl_core.broker.overview.roster import BEAT_SECONDS, IDLE_BEAT_SECONDS, Roster, due_seconds
from fl_core.broker.tasks import TaskBroker, payload_place
from fl_core.errors import MissingBlob
from fl_core.wire.digest import digest
from fl_core.wire.messages import Beat, ModelUpdate, TaskCall, TrainTask, holding_name

# A worker that has taken a task says so this soon.
NEWS_SECONDS = 1.0


class LightWorker:
    """One worker's state at the broker."""

    def __init__(self, client: Client, roster: Roster, name: str) -> None:
        self.name = name
        self.due = 0.0
        self._broker = TaskBroker(client, name)
        self._roster = roster
        self._digest = ""
        self._task: TrainTask | None = None
        self._head: Head | None = None
        self._bytes_down = 0
        self._num_done = 0

    def begin(self, order: bytes) -> bool:
        """Claim a task; False when it is void."""
        claim = self._broker.claim(TaskCall.from_bytes(order), self._digest)
        task = claim.task
        if claim.head is None or task is None:
            return False
        self._bytes_down = 0
        if claim.head.digest != self._digest:
            try:
                self._bytes_down = len(self._broker.fetch(task, claim.head))
            except MissingBlob:
                return False
            self._digest = claim.head.digest
        self._task, self._head = task, claim.head
        return True

    def end(self) -> None:
        """Deliver the update."""
        task, head = self._task, self._head
        if task is None or head is None:
            return
        payload = bytes(head.num_bytes)
        blob, num_chunks = payload_place(task, self.name, len(payload))
        update = ModelUpdate(
            campaign=task.campaign,
            task_id=task.task_id,
            attempt=task.attempt,
            worker=self.name,
            base_version=head.version,
            num_examples=1,
            sends=task.sends,
            codec=task.codec,
            layout_digest=task.layout_digest,
            payload_bytes=len(payload),
            payload_digest=digest(payload),
            blob=blob,
            num_chunks=num_chunks,
            bytes_down=self._bytes_down,
            metrics={},
            seconds={},
        )
        self._broker.deliver(update, payload)
        self._task = None
        self._num_done += 1

    def beat(self) -> float:
        """Say what it holds; returns the seconds until it has to say it again."""
        task = self._task
        beat = Beat(
            worker=self.name,
            state="training" if task else "idle",
            queues=("default",),
            holding=holding_name(task.campaign, task.task_id, task.attempt) if task else "",
            host="light",
            pid=os.getpid(),
            started_ms=0,
            threads=1,
            device="none",
            num_done=self._num_done,
            num_failed=0,
            bytes_up=0,
            bytes_down=0,
        )
        self._roster.beat(beat)
        return due_seconds(beat)


def work(url: str, num_workers: int, task_seconds: float, spread: float = 0.5, prefix: str = "light") -> None:
    """Be ``num_workers`` workers for ever; a task takes ``task_seconds``, more or less by up to ``spread`` of it."""
    client = connect(url)
    roster, draw = Roster(client), random.Random(0)
    idle = [LightWorker(client, roster, f"{prefix}-{index}") for index in range(num_workers)]
    order = itertools.count()
    beats: list[tuple[float, int, LightWorker]] = []

    def beat_at(worker: LightWorker, due: float) -> None:
        """Its next beat is then, and not when it was to be before."""
        worker.due = due
        heapq.heappush(beats, (due, next(order), worker))

    for index, worker in enumerate(idle):
        worker.beat()
        beat_at(worker, time.monotonic() + IDLE_BEAT_SECONDS * index / num_workers)
    busy: list[tuple[float, int, LightWorker]] = []
    queue = train_queue("default")
    while True:
        now = time.monotonic()
        while busy and busy[0][0] <= now:
            worker = heapq.heappop(busy)[2]
            worker.end()
            idle.append(worker)
        while beats[0][0] <= now:
            due, _, worker = heapq.heappop(beats)
            if due == worker.due:
                beat_at(worker, now + worker.beat())
        until = min(beats[0][0], busy[0][0] if busy else now + 1.0) - time.monotonic()
        if not idle:
            time.sleep(max(0.0, until))
            continue
        popped = client.brpop([queue], timeout=max(0.001, until))
        if popped is None:
            continue
        message = json.loads(popped[1])
        ((task,), _, _) = msgpack.unpackb(base64.b64decode(message["body"]))
        if idle[-1].begin(task):
            worker, now = idle.pop(), time.monotonic()
            heapq.heappush(busy, (now + task_seconds * draw.uniform(1 - spread, 1 + spread), next(order), worker))
            if worker.due > now + BEAT_SECONDS:
                beat_at(worker, now + NEWS_SECONDS)


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:5]), *sys.argv[5:])  # type: ignore[arg-type]
