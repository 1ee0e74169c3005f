"""`fedtide export`: a run's history for TensorBoard or MLflow, while it runs or afterwards.

The steps are versions. Evaluations go as they are; merges, of which there may be hundreds a second, are folded into a
point per half second at first and per thousandth of the campaign's time later, so that a campaign of any length has a
few thousand points. Points are a function of the history alone: an export that goes on later adds what is new.
"""

from __future__ import annotations

import itertools
import json
import os
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from coordinator.run_folder import RunFolder
from fl_core.errors import SpecError
from fl_core.extras import need

MIN_INTERVAL_SECONDS = 0.5
INTERVAL_SHARE = 1 / 1000
FOLLOW_SECONDS = 1.0
# What one request to an MLflow server may hold.
MLFLOW_METRICS, MLFLOW_PARAMS, MLFLOW_CHARACTERS = 1000, 100, 500

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Point:
    """Values at one moment.

    Attributes:
        seconds: campaign time.
        step: the model's version.
        values: by name, such as ``evaluation/accuracy``.
    """

    seconds: float
    step: int
    values: Mapping[str, float]


class Target(Protocol):
    """Where points go."""

    def write(self, points: Iterable[Point]) -> int:
        """Take points in; how many of them are new to it."""

    def close(self, state: str) -> None:
        """No more points for now; the campaign is in this state."""


def points(lines: Iterable[Line]) -> Iterator[Point]:
    """A history as points. What has not filled its interval when the lines end is kept back: it comes with the rest."""
    since, merged, staleness, version = 0.0, 0, list[int](), 0
    rejected: Counter[str] = Counter()
    reissued = 0
    for line in lines:
        seconds, ends = line["seconds"], line["kind"] == "end"
        if seconds - since >= max(MIN_INTERVAL_SECONDS, seconds * INTERVAL_SHARE) or ends:
            values = {f"rejected/{reason}": float(count) for reason, count in sorted(rejected.items())}
            if staleness:
                values |= {
                    "merges/updates_per_second": len(staleness) / max(seconds - since, 1e-3),
                    "merges/staleness_mean": sum(staleness) / len(staleness),
                    "merges/staleness_max": float(max(staleness)),
                    "merges/merged": float(merged),
                }
            if values or reissued:
                yield Point(seconds, version, {**values, "tasks/reissued": float(reissued)})
            since, staleness = seconds, []
        match line["kind"]:
            case "merge":
                version, merged = line["version"], line["merged"]
                staleness += line["staleness"]
            case "rejection":
                rejected[line["reason"]] += 1
            case "reissue":
                reissued += 1
            case "evaluation":
                scores = {"evaluation/loss": line["loss"], "evaluation/accuracy": line["accuracy"]}
                yield Point(seconds, line["version"], {k: v for k, v in scores.items() if v is not None})


class Tail:
    """A history's lines as they come.

    Attributes:
        state: what the last line of all says of the campaign's end; empty while it goes on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.state = ""

    def read(self) -> Iterator[Line]:
        """The lines since the last call, an incomplete one left for the next.

        A resumed campaign writes its history again up to where it was, to the same bytes: they are not told twice.
        """
        if self._path.stat().st_size <= self._offset:
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for raw in file:
                if not raw.endswith(b"\n"):
                    return
                self._offset += len(raw)
                line = json.loads(raw)
                self.state = line["state"] if line["kind"] == "end" else ""
                yield line

    def follow(self) -> Iterator[Line]:
        """Lines until the campaign ends."""
        while True:
            yield from self.read()
            if self.state:
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
    tail, written = Tail(run.history), Counter[str]()
    stream = points(tail.follow() if follow else tail.read())
    while batch := list(itertools.islice(stream, 1 if follow else MLFLOW_METRICS)):
        for kind, target in targets.items():
            written[kind] += target.write(batch)
    for target in targets.values():
        target.close(tail.state)
    return {"run": name, "state": tail.state, **{kind: written[kind] for kind in targets}}


def _started(history: Path) -> float:
    """When the campaign began, seconds since 1970, to the second or so: the file's last line is as old as the file."""
    last = 0.0
    for line in Tail(history).read():
        last = line["seconds"]
    return history.stat().st_mtime - last


class TensorBoard:
    """Scalars in an event file, by TensorBoard's own writer.

    Args:
        folder: of this run alone; an earlier export into it is replaced.
        started: when the campaign began, seconds since 1970.

    Raises:
        SpecError: the extra ``tensorboard`` is not installed, or the folder cannot be written.
    """

    def __init__(self, folder: Path, started: float) -> None:
        need("--tensorboard", "tensorboard")
        from tensorboard.summary import Writer

        try:
            for before in folder.glob("events.out.tfevents.*"):
                before.unlink()
            self._writer = Writer(str(folder))
        except OSError as error:
            raise SpecError(f"--tensorboard: {folder} cannot be written ({error.strerror}); name another.") from None
        self._started = started

    def write(self, points: Iterable[Point]) -> int:
        """Take points in; how many of them are new to it."""
        count = 0
        for point in points:
            count += 1
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, point.step, wall_time=self._started + point.seconds)
        self._writer.flush()
        return count

    def close(self, state: str) -> None:
        """No more points for now."""
        self._writer.close()


class Mlflow:
    """Metrics of one MLflow run, by MLflow's own client; a run that was exported before is gone on with.

    Args:
        uri: the tracking server or store.
        name: the run's name.
        spec: the resolved spec; its keys become the run's parameters, its campaign's name the experiment.
        started: when the campaign began, seconds since 1970.

    Raises:
        SpecError: the extra ``mlflow`` is not installed, or the server or store refuses.
    """

    def __init__(self, uri: str, name: str, spec: Path, started: float) -> None:
        # Nothing is told to anybody but the server that was asked for.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        if uri.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        need("--mlflow", "mlflow")
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._refused: type[Exception] = MlflowException
        self._uri = uri
        self._started = started
        document = tomllib.loads(spec.read_text(encoding="utf-8"))
        try:
            self._client = MlflowClient(tracking_uri=uri)
            self._run, self._before = self._find(document["campaign"]["name"], name, document)
        except (MlflowException, ImportError) as error:
            raise self._sentence(error) from None
        self._seen = 0

    def _find(self, experiment: str, name: str, document: Mapping[str, Any]) -> tuple[str, int]:
        """The run's id, and how many points it has."""
        from mlflow.entities import Param

        found = self._client.get_experiment_by_name(experiment)
        number = self._client.create_experiment(experiment) if found is None else found.experiment_id
        quote = "'" if '"' in name else '"'
        runs = self._client.search_runs([number], f"tags.`fedtide.run` = {quote}{name}{quote}", max_results=1)
        if runs:
            return runs[0].info.run_id, int(runs[0].data.tags.get("fedtide.points", 0))
        tags = {"fedtide.run": name, "fedtide.points": "0"}
        run = self._client.create_run(number, int(self._started * 1000), tags=tags, run_name=name).info.run_id
        params = [Param(key, str(value)[:MLFLOW_CHARACTERS]) for key, value in _flat(document)]
        for start in range(0, len(params), MLFLOW_PARAMS):
            self._client.log_batch(run, params=params[start : start + MLFLOW_PARAMS])
        return run, 0

    def write(self, points: Iterable[Point]) -> int:
        """Take points in; how many of them are new to it."""
        from mlflow.entities import Metric

        metrics, new = [], 0
        for point in points:
            self._seen += 1
            if self._seen > self._before:
                new += 1
                when = int((self._started + point.seconds) * 1000)
                metrics += [Metric(name, value, when, point.step) for name, value in point.values.items()]
        try:
            for start in range(0, len(metrics), MLFLOW_METRICS):
                self._client.log_batch(self._run, metrics=metrics[start : start + MLFLOW_METRICS])
            if new:
                self._client.set_tag(self._run, "fedtide.points", str(self._seen))
        except self._refused as error:
            raise self._sentence(error) from None
        return new

    def close(self, state: str) -> None:
        """No more points for now; a campaign that has ended ends its run."""
        if state:
            status = {"finished": "FINISHED", "stopped": "FINISHED"}.get(state, "KILLED")
            self._client.set_terminated(self._run, status=status)

    def _sentence(self, error: Exception) -> SpecError:
        return SpecError(f"--mlflow {self._uri} does not take the run: {str(error).partition(chr(10))[0][:300]}")


def _flat(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The spec's keys as ``section.key``."""
    for section, values in document.items():
        for key, value in values.items():
            yield f"{section}.{key}", value
