"""What MLflow has of a run: its points once each, however often they are exported, and the spec as parameters."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coordinator.report.exports import mlflow as module
from coordinator.report.exports.mlflow import Mlflow
from coordinator.report.exports.points import Point
from fl_core.errors import SpecError

pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")

POINTS = [Point(float(number), 2 * number, {"evaluation/loss": 1 / number}) for number in range(1, 6)]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.toml"
    path.write_text('[campaign]\nname = "digits"\n[model]\nfactory = "a:b"\nargs = { x = 1 }\n')
    return path


def test_an_export_goes_on_where_the_one_before_was(
    tmp_path: Path, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One MLflow run per run; each point once, in as many requests as it takes; ended when the campaign has ended."""
    from mlflow.tracking import MlflowClient

    monkeypatch.setattr(module, "MLFLOW_METRICS", 2)
    monkeypatch.setattr(module, "MLFLOW_PARAMS", 2)
    uri = f"file:{tmp_path}/store"
    new, states = [], []
    for count, state in ((3, ""), (5, "finished"), (5, "finished")):
        target = Mlflow(uri, 'run "1"', spec, 1000.0)
        new.append(target.write(POINTS[:count]))
        target.close(state)
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name("digits")
        (run,) = client.search_runs([experiment.experiment_id])
        states.append(run.info.status)
    assert (new, states) == ([3, 2, 0], ["RUNNING", "FINISHED", "FINISHED"])
    assert (run.info.run_name, run.info.start_time) == ('run "1"', 1_000_000)
    assert run.data.params == {"campaign.name": "digits", "model.factory": "a:b", "model.args": "{'x': 1}"}
    history = client.get_metric_history(run.info.run_id, "evaluation/loss")
    assert [(metric.step, metric.timestamp, metric.value) for metric in history] == [
        (point.step, int(1000 * (1000 + point.seconds)), point.values["evaluation/loss"]) for point in POINTS
    ]
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_campaign_that_was_left_is_a_run_that_was_killed(tmp_path: Path, spec: Path) -> None:
    """Nobody takes it for one that runs."""
    from mlflow.tracking import MlflowClient

    uri = f"file:{tmp_path}/store"
    Mlflow(uri, "run-1", spec, 0.0).close("interrupted")
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert run.info.status == "KILLED"


def test_a_store_that_is_none_is_a_sentence(spec: Path) -> None:
    """It names the store."""
    with pytest.raises(SpecError, match="--mlflow nonsense://there does not take the run"):
        Mlflow("nonsense://there", "run-1", spec, 0.0)
