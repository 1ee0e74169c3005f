"""A profile from a campaign that was deployed: what its devices were like, as far as its log says."""

from __future__ import annotations

import contextlib
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.history import read_history
from coordinator.storage.kept_log import read_kept_log
from coordinator.storage.run_folder import RunFolder
from fl_core.errors import RejectedUpdate, SpecError
from fl_core.spec import load_spec
from fl_core.training.together.plan import work_of
from fl_core.wire.history import ReissueLine
from fl_core.wire.messages import ModelUpdate
from fl_core.wire.signed import update_of

# Of a large fleet so many devices speak for all, those in between by quantiles.
MAX_VALUES = 200


def profile_of(path: Path) -> dict[str, Any]:
    """The profile of a run's fleet, as the document that ``parse_profile`` reads; its ``[data]`` has sizes alone.

    Each quantity is the empirical distribution over devices of each one's median: examples, seconds for an example,
    what a task takes beside its training, bytes per second on the way down. How the first two go together is their
    rank correlation, on the scale of normal numbers. Tasks that were lost are its drop-outs. When devices were there,
    and how fast their way up is, is not in the log.

    Raises:
        SpecError: the run has kept no log (``checkpoint.keep_log``), or there are no updates in it.
        CampaignError: not all of it is there.
    """
    spec = load_spec(RunFolder(path).spec)
    if spec.training.pace_seconds is not None or spec.training.method != "local":
        raise SpecError(
            f"{path}: how many examples a task went through is known of training.method = 'local' without pace_seconds "
            "alone; write the profile by hand."
        )
    by_device: defaultdict[str, list[ModelUpdate]] = defaultdict(list)
    for update in _updates(path):
        by_device[update.worker].append(update)
    if not by_device:
        raise SpecError(f"{path} holds no update; there is nothing to learn of its devices.")
    examples, speeds, beside, down = [], [], [], []
    for updates in by_device.values():
        number = statistics.median(update.num_examples for update in updates)
        _, num_seen = work_of(spec.training, max(1, round(number)))
        examples.append(float(number))
        speeds.append(_median(update.seconds.get("train", 0.0) for update in updates) / num_seen)
        beside.append(_median(update.seconds.get("encode", 0.0) for update in updates))
        down += [rate for update in updates if (rate := _rate(update)) is not None][:1]
    device: dict[str, Any] = {
        "name": "device",
        "overhead_seconds": _empirical(beside),
        "seconds_per_example": _empirical(speeds),
        "drop_out": _drop_out(path, sum(map(len, by_device.values()))),
    }
    if down:
        device["down_bytes_per_second"] = _empirical(down)
    if len(examples) > 2:
        device["speed_follows_data"] = _correlation(examples, speeds)
    return {"data": {"examples": _empirical(examples)}, "devices": [device]}


def _updates(path: Path) -> Iterator[ModelUpdate]:
    folder = RunFolder(path)
    seen = CheckpointStore(str(folder.checkpoint)).peek()
    if seen is None or not seen.get("kept_log"):
        raise SpecError(f"{path} holds no run that has kept its log; run it with checkpoint.keep_log = true.")
    for kind, *rest in read_kept_log(folder.kept_log, seen["kept_log"]):
        if kind == "entry" and rest[1] == "u":
            with contextlib.suppress(RejectedUpdate):  # it was refused then, too
                yield update_of(rest[2])


def _median(values: Iterator[float]) -> float:
    return statistics.median(values)


def _rate(update: ModelUpdate) -> float | None:
    """Bytes per second on the way down; None where nothing to speak of was fetched."""
    seconds = update.seconds.get("fetch", 0.0)
    return update.bytes_down / seconds if update.bytes_down and seconds > 0 else None


def _empirical(values: Sequence[float]) -> dict[str, Any]:
    some = np.array(values)
    if len(some) > MAX_VALUES:
        some = np.quantile(some, (np.arange(MAX_VALUES) + 0.5) / MAX_VALUES)
    return {"kind": "empirical", "values": [float(f"{value:.4g}") for value in np.sort(some)]}


def _drop_out(path: Path, answered: int) -> float:
    lines = read_history(RunFolder(path).history)
    gone = sum(isinstance(line, ReissueLine) and line.reason == "lost" for line in lines)
    return round(gone / (gone + answered), 4)


def _correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Of the normal numbers that belong to the ranks, in [-0.99, 0.99]; 0 where all are the same."""

    def scores(values: Sequence[float]) -> Any:
        ranks = np.argsort(np.argsort(values)).astype(np.float64)
        return torch.special.ndtri(torch.from_numpy((ranks + 0.5) / len(ranks))).numpy()

    if len(set(first)) == 1 or len(set(second)) == 1:
        return 0.0
    return round(float(np.corrcoef(scores(first), scores(second))[0, 1].clip(-0.99, 0.99)), 3)
