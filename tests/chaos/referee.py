"""The judge of a chaos run: independent of the ledger, of the state machine and of the product's arithmetic.

It reads three things: each worker's own diary (the lines that it logged when a delivery was acknowledged), the log that
the coordinator has kept as raw msgpack (with privacy it may keep none), and what the campaign wrote into its folder.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import safetensors.numpy


@dataclass(frozen=True)
class Rules:
    """What the referee must know of the campaign's spec.

    Attributes:
        merge_again: its strategy and codec are those that the referee can merge itself.
        forgetful: the server lost acknowledged writes, which are done again, or are out when the campaign stops; or its
            clock was set, so that no time tells what came before the stop. The cancelled may be among the missing.
        asked_ms: when the campaign was first asked to stop, where no log is kept that says when it did.
    """

    campaign: str
    buffer_size: int
    server_rate: float
    staleness_exponent: float
    max_staleness: int
    merge_again: bool = True
    forgetful: bool = False
    asked_ms: float | None = None


def read_diaries(files: Iterable[Path]) -> list[tuple[int, str, float]]:
    """(task number, payload digest, milliseconds) of every delivery that a worker saw acknowledged."""
    deliveries = []
    for path in files:
        for line in path.read_text(errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and record.get("event") in ("delivered", "a kept update was delivered"):
                when = datetime.datetime.fromisoformat(record["timestamp"]).timestamp() * 1000
                deliveries.append((int(record["task"].partition("-")[0]), record["digest"], when))
    return deliveries


def read_log(folder: Path) -> list[tuple[str, dict[str, Any], bytes, int]]:
    """(kind, decoded header, payload, milliseconds) of every entry of the log that was kept, in order."""
    newest = max((folder / "checkpoint").glob("state-*.msgpack"))
    record = msgpack.unpackb(newest.read_bytes(), strict_map_key=False)
    parts = msgpack.unpackb(record["meta"], strict_map_key=False)["kept_log"]
    entries, payloads = [], {}
    for name, num_bytes in parts:
        unpacker = msgpack.Unpacker(max_buffer_size=2**31 - 1)
        unpacker.feed((folder / "log" / name).read_bytes()[:num_bytes])
        for what, *rest in unpacker:
            if what == "payload":
                payloads[rest[0]] = rest[1]
            elif what == "entry":
                position, kind, packed, payload = rest
                header = msgpack.unpackb(packed, raw=False)
                if "signature" in header:  # a member's, who signs the record as it travels
                    header = msgpack.unpackb(header["body"], raw=False)
                if kind == "u" and header["blob"]:
                    payload = payloads.get(header["blob"], b"")
                entries.append((kind, header, payload, int(position.partition("-")[0])))
                payloads.clear()
    return entries


def merge_again(
    entries: list[tuple[str, dict[str, Any], bytes, int]], initial: np.ndarray, rules: Rules
) -> dict[str, Any]:
    """FedBuff in float64 over the log: the first acceptable update of each issued task counts."""
    x = initial.astype(np.float64)
    buffered = np.zeros_like(x)
    count, version, issued, merged = 0, 0, 0, 0
    ended: set[int] = set()
    stopped = False
    sequence = 0
    for kind, header, payload, _ in entries:
        if kind == "e":
            if header["sequence"] != sequence + 1:
                continue
            sequence += 1
            if header["kind"] == "issued":
                issued += len(header["body"]["queues"])
            elif header["kind"] == "stopped":
                stopped = True
        elif kind == "u" and not stopped:
            number = int(header["task_id"].partition("-")[0])
            staleness = version - header["base_version"]
            if not 1 <= number <= issued or number in ended or staleness < 0:
                continue
            ended.add(number)
            if staleness > rules.max_staleness:
                continue
            delta = np.frombuffer(payload, np.float32).astype(np.float64)
            buffered += (1 + staleness) ** -rules.staleness_exponent * delta
            count, merged = count + 1, merged + 1
            if count == rules.buffer_size:
                x, version, count = x + rules.server_rate * buffered / rules.buffer_size, version + 1, 0
                buffered = np.zeros_like(x)
    if count and stopped:
        x, version = x + rules.server_rate * buffered / rules.buffer_size, version + 1
    return {"x": x, "version": version, "merged": merged, "answered": ended}


def judge(folder: Path, diaries: Iterable[Path], initial: np.ndarray, names: list[str], rules: Rules) -> dict[str, Any]:
    """The verdict: what was lost, what counted twice, and whether the model is the log's.

    Args:
        initial: version 0, flat, in the order of ``names``.
        names: of the model's tensors.
    """
    summary = json.loads((folder / "summary.json").read_text())
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    merges = Counter(task for line in lines if line["kind"] == "merge" for task in line["tasks"])
    refused = {int(line["task"].partition("-")[0]) for line in lines if line["kind"] == "rejection" and line["task"]}
    delivered = read_diaries(diaries)
    entries = read_log(folder) if rules.asked_ms is None else []
    logged = {(int(h["task_id"].partition("-")[0]), h["payload_digest"]) for k, h, _, _ in entries if k == "u"}
    # What was delivered before the campaign was asked to stop must have been merged or refused by name. A task that was
    # out at that moment was cancelled, and an answer that comes later is late.
    stopped_ms = rules.asked_ms or max(
        ms for kind, header, _, ms in entries if kind == "e" and header["kind"] == "stopped"
    )
    lost = {task for task, _, ms in delivered if ms < stopped_ms and task not in merges and task not in refused}
    num_lost = max(0, len(lost) - summary["cancelled"]) if rules.forgetful else len(lost)
    told = {
        "lost": num_lost,
        "doubled": sum(times > 1 for times in merges.values()),
        "merges_written": sum(merges.values()) == summary["merged"],
        "delivered": len(delivered),
    }
    if entries:
        told["delivered_not_in_log"] = sum((task, digest) not in logged for task, digest, _ in delivered)
    if not rules.merge_again:
        return told
    again = merge_again(entries, initial, rules)
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    model = np.concatenate([tensors[name].ravel() for name in names]).astype(np.float64)
    error = float(np.linalg.norm(model - again["x"]) / max(1e-12, np.linalg.norm(model - initial)))
    return {
        **told,
        "remerge_merged_equal": again["merged"] == summary["merged"] == sum(merges.values()),
        "remerge_versions_equal": again["version"] == summary["versions"],
        "remerge_relative_error": error,
    }
