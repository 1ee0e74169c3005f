"""A run's history as MLflow keeps it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from coordinator.report.exports.points import Point
from fl_core.errors import SpecError
from fl_core.program.extras import need
from fl_core.wire.states import OVER

# What one request to an MLflow server may hold.
MLFLOW_METRICS, MLFLOW_PARAMS, MLFLOW_CHARACTERS = 1000, 100, 500


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
        # Nothing is sent to any server but the one that was asked for.
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
            self._client.set_terminated(self._run, status="FINISHED" if state in OVER else "KILLED")

    def _sentence(self, error: Exception) -> SpecError:
        return SpecError(f"--mlflow {self._uri} does not take the run: {str(error).partition(chr(10))[0][:300]}")


def _flat(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The spec's keys as ``section.key``."""
    for section, values in document.items():
        for key, value in values.items():
            yield f"{section}.{key}", value
