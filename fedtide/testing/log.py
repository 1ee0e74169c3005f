"""A campaign in memory, whose log is written by hand: entries as workers and coordinators would append them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import msgpack
import numpy as np

from coordinator.campaign.admission import Admission, FetchBlob
from coordinator.campaign.effects import Effects
from coordinator.campaign.ledger import task_id
from coordinator.campaign.state import CampaignState
from fedtide.testing.blobs import FakeBlobs
from fl_core.aggregation import build_strategy
from fl_core.codecs import codec
from fl_core.spec import parse_spec
from fl_core.vectors import Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec
from fl_core.wire.digest import digest
from fl_core.wire.events import CampaignEvent
from fl_core.wire.history import HistoryLine
from fl_core.wire.log_entry import LogEntry, event_mac
from fl_core.wire.messages import ModelUpdate, TaskReport

CAMPAIGN = "digits-1"
SECRET = b"s" * 32
NUM_ELEMENTS = 64


class LogByHand:
    """One campaign on a model of 64 zeros: builders of entries, and ``apply``, which remembers what was applied.

    Args:
        sections: the spec's, by name; only the model is given.

    Attributes:
        state: the ``CampaignState`` that the entries so far have led to.
        entries: all of them, in order.
        lines: all lines of the history that they caused; ``history`` has their maps.
        blobs: the payloads that do not ride in the log.

    >>> log = LogByHand(aggregation={"buffer_size": 2, "staleness": "constant"}).open(3)
    >>> log.apply(log.update(1), log.update(2)).merges
    [Merge(version=1, num_updates=2, staleness=(0, 0), weights=(1.0, 1.0))]
    >>> log.values[:4]
    [0.0, 0.5, 0.5, 0.0]
    """

    def __init__(self, **sections: Any) -> None:
        self.spec = parse_spec({"model": {"factory": "a:b"}, **sections})
        self.layout = Layout((TensorSpec("weight", (NUM_ELEMENTS,)),))
        self.blobs = FakeBlobs()
        self.admission = self.new_admission(self.blobs.fetch)
        self.state = self.new_state()
        self.entries: list[LogEntry] = []
        self.lines: list[HistoryLine] = []
        self.sequence = 0
        self.milliseconds = 1_000_000

    def new_state(self) -> CampaignState:
        """The same campaign before its first entry."""
        strategy = build_strategy(self.spec, self.layout, Parameters(np.zeros(NUM_ELEMENTS, np.float32)))
        return CampaignState(CAMPAIGN, self.spec, SECRET, strategy, self.admission, self.layout)

    def resumed(self, before: CampaignState | None = None) -> CampaignState:
        """What a coordinator has that goes on from a checkpoint of ``state``, or of another one."""
        tensors, meta = (before or self.state).export()
        state = self.new_state()
        plain = msgpack.unpackb(msgpack.packb(meta), strict_map_key=False)
        state.restore({name: np.array(array) for name, array in tensors.items()}, plain)
        return state

    def new_admission(self, fetch_blob: FetchBlob) -> Admission:
        """The campaign's checks, with payloads from elsewhere."""
        return Admission(CAMPAIGN, self.spec, self.layout, SECRET, fetch_blob)

    # -- entries ---------------------------------------------------------------------------------------------------

    def entry(self, kind: str, header: bytes, payload: bytes = b"") -> LogEntry:
        """An entry of any kind, half a second after the last one."""
        self.milliseconds += 500
        return LogEntry(f"{self.milliseconds}-0", kind, header, payload)

    def event(
        self, kind: str, body: dict[str, Any] | None = None, *, sequence: int | None = None, key: bytes = SECRET
    ) -> LogEntry:
        """A signed event with the next number, or a forged one."""
        if sequence is None:
            sequence = self.sequence = self.sequence + 1
        event = CampaignEvent(campaign=CAMPAIGN, sequence=sequence, kind=kind, body=body or {})
        return self.entry("e", event.to_bytes(), event_mac(key, event.to_bytes()))

    def update(
        self, number: int, attempt: int = 1, values: Any = None, *, worker: str = "worker-0", **changes: Any
    ) -> LogEntry:
        """What a worker sends for a task.

        Args:
            number: the task's, from 1.
            attempt: which one it answers.
            values: what is sent; by default a 1 at the place of the task's number.
            worker: its name.
            changes: other fields of ``ModelUpdate``, and ``payload``, its bytes.
        """
        if values is None:
            values = np.zeros(NUM_ELEMENTS, np.float32)
            values[number % NUM_ELEMENTS] = 1.0
        if (payload := changes.pop("payload", None)) is None:
            chosen = codec(self.spec.codec.name, self.spec.codec.args)
            payload = bytes(chosen.encode(np.array(values, np.float32), seed=number))
        header = ModelUpdate(
            campaign=CAMPAIGN,
            task_id=task_id(SECRET, number),
            attempt=attempt,
            worker=worker,
            base_version=self.state.strategy.version,
            num_examples=10,
            sends=self.state.strategy.sends,
            codec=self.spec.codec.name,
            layout_digest=self.layout.digest,
            payload_bytes=len(payload),
            payload_digest=digest(payload),
            blob="",
            num_chunks=0,
            bytes_down=100,
            metrics={"loss": 1.0},
            seconds={"train": 0.5},
        )
        header = replace(header, **changes)
        if header.blob:
            self.blobs.setdefault(header.blob, payload)
        return self.entry("u", header.to_bytes(), b"" if header.blob else payload)

    @staticmethod
    def blob_name(number: int, attempt: int = 1, worker: str = "worker-0") -> str:
        """What a worker calls the blob of a large payload."""
        return f"{task_id(SECRET, number)}.{attempt}.{worker}"

    def report(self, number: int, attempt: int = 1, outcome: str = "failed", **changes: Any) -> LogEntry:
        """What a worker says that could not do a task."""
        report = TaskReport(
            campaign=CAMPAIGN,
            task_id=task_id(SECRET, number),
            attempt=attempt,
            worker="worker-0",
            outcome=outcome,
            detail="it broke",
        )
        return self.entry("r", replace(report, **changes).to_bytes())

    def issued(self, count: int, queue: str = "default") -> LogEntry:
        """So many new tasks."""
        return self.event("issued", {"queues": [queue] * count})

    def reissued(self, number: int, attempt: int = 1, reason: str = "lost") -> LogEntry:
        """A task's next attempt."""
        return self.event("reissued", {"task": number, "attempt": attempt, "queue": "default", "reason": reason})

    # -- applying --------------------------------------------------------------------------------------------------

    def apply(self, *entries: LogEntry) -> Effects:
        """Apply entries, check the ledger after each, and give the effects of the last one."""
        for entry in entries:
            effects = self.state.apply(entry)
            self.state.ledger.verify()
            self.entries.append(entry)
            self.lines += effects.history
        return effects

    def open(self, count: int) -> Self:
        """Open the campaign and issue its first tasks."""
        self.apply(self.event("opened", {"spec": "x", "layout": self.layout.digest}))
        self.apply(self.issued(count))
        return self

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines as a run's ``history.jsonl`` has them."""
        return [line.to_map() for line in self.lines]

    @property
    def values(self) -> list[float]:
        """The model as it is now."""
        values: list[float] = self.state.strategy.parameters.values.tolist()
        return values

    def fingerprint(self, state: CampaignState | None = None) -> tuple[dict[str, bytes], Any]:
        """All of a state: its arrays' bytes and everything else as it would come out of a checkpoint."""
        tensors, meta = (state or self.state).export()
        return {name: array.tobytes() for name, array in tensors.items()}, msgpack.unpackb(msgpack.packb(meta))
