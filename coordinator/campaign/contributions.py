"""The devices' contributions to a campaign: updates by worker, their staleness, bytes, and scores of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fl_core.wire.messages import ModelUpdate

DEVICE_SCORES = ("personal_accuracy", "personal_loss", "global_accuracy", "global_loss")
MAX_SCORED_DEVICES = 10_000
MAX_SILENT_DEVICES = 1_000_000
# Devices say how much they fetched. A sum that no double holds exactly is of no use to anybody, and one of more than
# 64 bits cannot be written into a checkpoint.
MAX_TOTAL_BYTES = 2**53


class Contributions:
    """Counts them.

    Attributes:
        staleness: how many merged updates had which.
        merged_by_worker: how many of whose updates were merged.
        bytes_up, bytes_down: of payloads, as far as devices say so.
        given_all: devices that have said since their last update that they may give no more away.
        device_scores: a device's newest accuracy and loss, of the global model and of its own, by worker.
    """

    def __init__(self) -> None:
        self.staleness: Counter[int] = Counter()
        self.merged_by_worker: Counter[str] = Counter()
        self.bytes_up = 0
        self.bytes_down = 0
        self.given_all: set[str] = set()
        self.device_scores: dict[str, dict[str, float]] = {}

    def admit(self, update: ModelUpdate, metrics: Mapping[str, float]) -> None:
        """An update was admitted.

        Args:
            metrics: those of its device that may be shown.
        """
        self.bytes_up = min(MAX_TOTAL_BYTES, self.bytes_up + update.payload_bytes)
        self.bytes_down = min(MAX_TOTAL_BYTES, self.bytes_down + update.bytes_down)
        self.given_all.discard(update.worker)
        scores = {name: metrics[name] for name in DEVICE_SCORES if name in metrics}
        if scores and (update.worker in self.device_scores or len(self.device_scores) < MAX_SCORED_DEVICES):
            self.device_scores[update.worker] = scores

    def note_given_all(self, worker: str) -> None:
        """A device hands a task back because it may give no more away."""
        if len(self.given_all) < MAX_SILENT_DEVICES:
            self.given_all.add(worker)

    def merge(self, workers: Iterable[str], staleness: Sequence[int]) -> None:
        """Their updates were merged."""
        self.merged_by_worker.update(workers)
        self.staleness.update(staleness)

    def export(self) -> dict[str, Any]:
        """All state, as plain values."""
        return {
            "staleness": sorted(self.staleness.items()),
            "merged_by_worker": dict(self.merged_by_worker),
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "device_scores": self.device_scores,
            **({"given_all": sorted(self.given_all)} if self.given_all else {}),
        }

    def restore(self, meta: Mapping[str, Any]) -> None:
        """The inverse of ``export``."""
        self.staleness = Counter(dict(meta["staleness"]))
        self.merged_by_worker = Counter(meta["merged_by_worker"])
        self.bytes_up, self.bytes_down = meta["bytes_up"], meta["bytes_down"]
        self.device_scores = {worker: dict(scores) for worker, scores in meta["device_scores"].items()}
        self.given_all = set(meta.get("given_all", ()))
