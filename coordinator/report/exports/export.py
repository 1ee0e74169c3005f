"""`fedtide export`: a run's history for TensorBoard or MLflow, while it runs or afterwards.

The steps are versions. Evaluations go as they are; merges, of which there may be hundreds a second, are folded into a
point per half second at first and per thousandth of the campaign's time later, so that a campaign of any length has a
few thousand points. Points are a function of the history alone: an export that goes on later adds what is new.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coordinator.report.exports.mlflow import MLFLOW_METRICS, Mlflow
from coordinator.report.exports.points import Target, points
from coordinator.report.exports.tensorboard import TensorBoard
from coordinator.report.series import read_series
from coordinator.storage.history import HistoryReader
from coordinator.storage.run_folder import RunFolder
from fl_core.errors import SpecError
from fl_core.wire.history import HistoryLine

FOLLOW_SECONDS = 1.0


def followed(reader: HistoryReader) -> Iterator[HistoryLine]:
    """Lines until the campaign ends."""
    while True:
        yield from reader.read()
        if reader.state:
            return
        time.sleep(FOLLOW_SECONDS)


def export_run(folder: Path, *, tensorboard: Path | None, mlflow: str | None, follow: bool) -> dict[str, Any]:
    """Write a run's history to where it is wanted.

    Args:
        folder: the run's.
        tensorboard: the log directory; the run gets a folder of its own name in it.
        mlflow: URI of the tracking server or store; the run belongs to the experiment of the campaign's name.
        follow: go on until the campaign ends.

    Returns:
        ``state`` of the campaign (empty while it runs), and per target the number of points that were new to it.

    Raises:
        SpecError: there is no history, no target, or its package is missing.
    """
    if not (folder / "history.jsonl").is_file():
        raise SpecError(f"{folder} holds no history.jsonl; give the folder of a run (--out of `fedtide run`).")
    if tensorboard is None and mlflow is None:
        raise SpecError("nothing to export to; give --tensorboard DIR, --mlflow URI, or both.")
    run, name = RunFolder(folder), folder.resolve().name
    started = _started(run.history)
    targets: dict[str, Target] = {}
    if tensorboard is not None:
        targets["tensorboard"] = TensorBoard(tensorboard / name, started)
    if mlflow is not None:
        targets["mlflow"] = Mlflow(mlflow, name, run.spec, started)
    reader, written = HistoryReader(run.history), Counter[str]()
    stream = points(followed(reader) if follow else reader.read())
    while batch := list(itertools.islice(stream, 1 if follow else MLFLOW_METRICS)):
        for kind, target in targets.items():
            written[kind] += target.write(batch)
    for target in targets.values():
        target.close(reader.state)
    return {"run": name, "state": reader.state, **{kind: written[kind] for kind in targets}}


def _started(history: Path) -> float:
    """When the campaign began, seconds since 1970, to the second or so: the file's last line is as old as the file."""
    return history.stat().st_mtime - read_series(history).seconds
