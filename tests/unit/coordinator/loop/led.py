"""A whole coordinator over a broker in memory, in virtual time: one device answers, and a test acts in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from coordinator.campaign.admission import Admission
from coordinator.campaign.state import CampaignState
from coordinator.launch.wiring import Files, Saved, Watchers, wire
from coordinator.loop.coordinator import Coordinator
from coordinator.outgoing.cadence import Cadence
from coordinator.outgoing.context import Context
from coordinator.outgoing.payloads import Payloads
from coordinator.simulation.clock import VirtualClock
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.run_folder import RunFolder
from coordinator.storage.spool import Spool
from fl_core.aggregation import build_strategy
from fl_core.broker import keys
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.clock import CampaignClock
from fl_core.broker.doorbell.message import read_call
from fl_core.broker.lease import Writer
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.tasks import TaskBroker
from fl_core.spec import parse_spec
from fl_core.vectors import Parameters
from fl_core.wire.digest import digest
from fl_core.wire.messages import ModelUpdate, TaskReport
from fl_core.wire.status import Status
from tests.unit.coordinator.stand_ins import IDENTITY, LAYOUT

WORKER = "played"
TURN_MS = 250.0


class Led:
    """One campaign, which ends after so many updates.

    Args:
        folder: the run's.
        evaluator: scores versions; None for no evaluation.
        cadence: how often what is done; None for the usual.
        server: the broker; None for one of its own.
        sections: the spec's, by name.

    Attributes:
        answer: what the device does with a task that it has claimed; None to leave doorbells alone.
        between: called whenever the loop waits, with how often it has waited before.
        told: the last status that monitors were to see.
    """

    def __init__(
        self,
        folder: Path,
        *,
        evaluator: Any = None,
        cadence: Cadence | None = None,
        server: MemoryServer | None = None,
        **sections: Any,
    ) -> None:
        defaults: dict[str, Any] = {
            "model": {"factory": "a:b"}, "stop": {"updates": 20}, "dispatch": {"concurrency": 4},
            "aggregation": {"buffer_size": 2},
        }  # fmt: skip
        self.spec = parse_spec({**defaults, **sections})
        self.server = server or MemoryServer()
        self.client = MemoryClient(self.server)
        self.device = TaskBroker(self.client, WORKER)
        self.folder = RunFolder(folder)
        self.broker = CampaignBroker(self.client, IDENTITY.campaign)
        self.writer = Writer(self.client, self.broker.keys, holder="test", lease_seconds=9.0)
        self.writer.acquire(0)
        self.answer: Callable[[Any, Any], None] | None = self.deliver
        self.between: Callable[[int], None] = lambda waits: None
        self.waits = 0
        self.told: list[Status] = []
        self.server.commands.streams.on_wait = self._wait
        self.state, self.coordinator = self._wire(evaluator, cadence or Cadence())

    def _wire(self, evaluator: Any, cadence: Cadence) -> tuple[CampaignState, Coordinator]:
        strategy = build_strategy(self.spec, LAYOUT, Parameters(np.zeros(LAYOUT.num_elements, np.float32)))
        payloads = Payloads(self.client, self.broker, Spool(self.folder.path / "spool"))
        admission = Admission(IDENTITY.campaign, self.spec, LAYOUT, IDENTITY.secret, payloads.fetch)
        state = CampaignState(IDENTITY.campaign, self.spec, IDENTITY.secret, strategy, admission, LAYOUT)
        clock = CampaignClock(self.broker, VirtualClock(self.server.keyspace))
        ctx = Context(IDENTITY, self.spec, LAYOUT, self.client, self.broker, clock, self.writer, cadence)
        files = Files(self.folder, CheckpointStore(str(self.folder.checkpoint)), None, None, {})
        coordinator = wire(ctx, state, payloads, evaluator, files, Watchers(self.told.append), Saved())
        coordinator.save_first()
        return state, coordinator

    def run(self) -> dict[str, Any]:
        """To the end; the summary, of which the ledger's identity holds."""
        summary = self.coordinator.run()
        self.state.ledger.verify()
        return summary

    def _wait(self, until_ms: float) -> None:
        """Somebody waits for the log: time passes, the test has its turn, and the device takes a task."""
        self.server.keyspace.now_ms = min(until_ms, self.server.keyspace.now_ms + TURN_MS)
        self.waits += 1
        assert self.waits < 5000, "the campaign does not end"
        self.between(self.waits)
        if self.answer is None:
            return
        message = self.client.quick("RPOP", keys.train_queue("default"))
        if message is None:
            return
        call = read_call(message)
        claim = None if call is None else self.device.claim(call, "")
        if claim is not None and claim.task is not None and claim.head is not None:
            self.answer(claim.task, claim.head)

    def deliver(self, task: Any, head: Any) -> None:
        """A delta of 1 everywhere."""
        payload = np.ones(LAYOUT.num_elements, np.float32).tobytes()
        self.device.deliver(self.update(task, head, payload), payload)

    def update(self, task: Any, head: Any, payload: bytes, **changes: Any) -> ModelUpdate:
        """The header of an update with that payload."""
        update = ModelUpdate(
            campaign=task.campaign, task_id=task.task_id, attempt=task.attempt, worker=WORKER,
            base_version=head.version, num_examples=1, sends=task.sends, codec=task.codec,
            layout_digest=task.layout_digest, payload_bytes=len(payload), payload_digest=digest(payload),
            blob="", num_chunks=0, bytes_down=0, metrics={}, seconds={},
        )  # fmt: skip
        return replace(update, **changes)

    def fail(self, task: Any, head: Any) -> None:
        """Its training raises."""
        self.device.report(
            TaskReport(
                campaign=task.campaign, task_id=task.task_id, attempt=task.attempt, worker=WORKER, outcome="failed",
                detail="ValueError: it broke",
            )
        )  # fmt: skip
