"""Hostile bytes against the decoder, admission and the state machine, for a time budget.

    make fuzz FUZZ_SECONDS=60

Entries are random bytes, random msgpack, and genuine records with fields dropped, added, retyped or swapped, payloads
cut, padded, damaged or not finite. Whatever comes, applying an entry ends with a counted rejection or a merge, the
ledger adds up, the model stays finite, and no entry makes the process allocate more than a few times the model.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import tracemalloc
from collections import Counter
from typing import Any

import msgpack
import numpy as np

from coordinator.campaign.admission import Admission
from coordinator.campaign.ledger import task_id
from coordinator.campaign.state import CampaignState
from fl_core.aggregation import build_strategy
from fl_core.errors import MissingBlob
from fl_core.spec import parse_spec
from fl_core.vectors import Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec
from fl_core.wire.digest import digest
from fl_core.wire.events import CampaignEvent
from fl_core.wire.log_entry import LogEntry, event_mac
from fl_core.wire.messages import ModelUpdate, TaskReport

SIZE = 512
SECRET = b"s" * 32
MAX_EXTRA_BYTES = 8 * 2**20
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**53, 2**64 - 1, 1e308, float("nan"), float("inf"), "", "x" * 300, "\0", "a/b", b"",
    b"\xff" * 40, [], [[]], {}, {"a": {"b": {}}}, {"loss": float("nan")}, [1, 2, 3], "0" * 32, "0" * 65,
)  # fmt: skip


class Adversary:
    """Makes entries, most of them wrong."""

    def __init__(self, seed: int, layout: Layout) -> None:
        self.random = random.Random(seed)
        self._layout = layout
        self._position = 0
        self._sequence = 0
        self.issued = 0

    def entry(self, kind: str, header: bytes, payload: bytes = b"") -> LogEntry:
        self._position += 1
        return LogEntry(f"{self._position}-0", kind, header, payload)

    def issue(self, count: int) -> LogEntry:
        self._sequence += 1
        self.issued += count
        body = {"queues": ["default"] * count}
        header = CampaignEvent(campaign="fuzz", sequence=self._sequence, kind="issued", body=body).to_bytes()
        return self.entry("e", header, event_mac(SECRET, header))

    def genuine(self, version: int) -> tuple[dict[str, Any], bytes]:
        values = np.full(SIZE, self.random.uniform(-1, 1), np.float32)
        payload = values.tobytes()
        number = max(1, self.issued - self.random.randint(0, 7))
        update = ModelUpdate(
            campaign="fuzz", task_id=task_id(SECRET, number), attempt=1, worker="w", base_version=version,
            num_examples=10, sends="delta", codec="fp32", layout_digest=self._layout.digest, payload_bytes=len(payload),
            payload_digest=digest(payload), blob="", num_chunks=0, bytes_down=0, metrics={"loss": 1.0},
            seconds={},
        )  # fmt: skip
        fields: dict[str, Any] = msgpack.unpackb(update.to_bytes())
        return fields, payload

    def next(self, version: int) -> LogEntry:
        draw = self.random
        choice = draw.random()
        if choice < 0.1:
            return self.entry(
                draw.choice("ure?"), draw.randbytes(draw.randint(0, 200)), draw.randbytes(draw.randint(0, 64))
            )
        if choice < 0.2:
            bomb = draw.choice(
                (b"\x91" * 5000, b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff" * 9)
            )
            return self.entry(draw.choice("ure"), bomb, b"")
        if choice < 0.3:
            report = TaskReport(
                campaign="fuzz", task_id=f"{draw.randint(0, 50)}-000000000000", attempt=1, worker="w",
                outcome=draw.choice(("failed", "handed_back")), detail="x" * draw.randint(0, 100),
            )  # fmt: skip
            return self.entry("r", self._damage(report.to_bytes()))
        fields, payload = self.genuine(version)
        for _ in range(draw.randint(0, 3)):
            self._change(fields)
        if draw.random() < 0.4:
            payload = self._damage(payload)
            if draw.random() < 0.7:  # a sender who lies about the rest as well
                fields["payload_bytes"], fields["payload_digest"] = len(payload), digest(payload)
        header = msgpack.packb(fields)
        return self.entry("u", self._damage(header) if draw.random() < 0.1 else header, payload)

    def _change(self, fields: dict[str, Any]) -> None:
        draw = self.random
        name = draw.choice(list(fields))
        match draw.randint(0, 3):
            case 0:
                del fields[name]
            case 1:
                fields[name] = draw.choice(VALUES)
            case 2:
                fields[f"extra{draw.randint(0, 9)}"] = draw.choice(VALUES)
            case _:
                if isinstance(fields.get(name), int):
                    fields[name] = min(fields[name] + draw.choice((-1, 1, 1000, 2**40)), 2**64 - 1)

    def _damage(self, data: bytes) -> bytes:
        draw = self.random
        changed = bytearray(data)
        match draw.randint(0, 3):
            case 0:
                return bytes(changed[: draw.randint(0, len(changed))])
            case 1:
                return bytes(changed + draw.randbytes(draw.randint(1, 4096)))
            case 2 if changed:
                for _ in range(draw.randint(1, 8)):
                    changed[draw.randrange(len(changed))] = draw.randrange(256)
            case _:
                changed[0:4] = np.float32(draw.choice((np.nan, np.inf, -np.inf, 3e38))).tobytes()
        return bytes(changed)


def fetch_blob(name: str, num_bytes: int) -> memoryview:
    """There are no blobs here; a hostile size must have been refused before."""
    if num_bytes > SIZE * 4:
        raise AssertionError(f"a blob of {num_bytes} bytes was asked for")
    raise MissingBlob(name)


def fuzz(seconds: float, seed: int) -> dict[str, Any]:
    """Attack until the time is over.

    Raises:
        Exception: whatever got through; the seed finds it again.
    """
    spec = parse_spec(
        {"model": {"factory": "a:b"}, "aggregation": {"buffer_size": 3}, "stop": {"failures_without_merge": 0}}
    )
    layout = Layout((TensorSpec("w", (SIZE,)),))
    strategy = build_strategy(spec, layout, Parameters(np.zeros(SIZE, np.float32)))
    state = CampaignState("fuzz", spec, SECRET, strategy, Admission("fuzz", spec, layout, SECRET, fetch_blob), layout)
    adversary = Adversary(seed, layout)
    reasons: Counter[str] = Counter()
    entries, peak, deadline = 0, 0, time.monotonic() + seconds
    tracemalloc.start()
    while time.monotonic() < deadline:
        if len(state.ledger.open) < 5:
            state.apply(adversary.issue(5))
        entry = adversary.next(strategy.version)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        effects = state.apply(entry)
        peak = max(peak, tracemalloc.get_traced_memory()[1] - before)
        reasons.update(refused.reason.value for refused in effects.refusals)
        state.ledger.verify()
        entries += 1
        if entries % 500 == 0 and not np.isfinite(strategy.parameters.values).all():
            raise AssertionError("the model is not finite any more")
    if peak > MAX_EXTRA_BYTES:
        raise AssertionError(f"one entry made the process allocate {peak} bytes")
    return {
        "seed": seed,
        "entries": entries,
        "merged": state.ledger.merged,
        "versions": strategy.version,
        "rejections": dict(sorted(reasons.items())),
        "peak_bytes_of_one_entry": peak,
    }


if __name__ == "__main__":
    chosen = int(os.environ.get("FUZZ_SEED", "0")) or int(time.time())
    print(f"seed {chosen}", file=sys.stderr)
    print(json.dumps(fuzz(float(os.environ.get("FUZZ_SECONDS", "60")), chosen)))
