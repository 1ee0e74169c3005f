"""Exports: what TensorBoard and MLflow read back is what the history says, once, however often one exports."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from coordinator.report.exports import export
from coordinator.report.exports.export import export_run
from coordinator.report.exports.points import Point, points
from coordinator.storage.history import HistoryReader
from fl_core.errors import SpecError
from fl_core.wire.history import history_line


def _merge(seconds: float, version: int, staleness: list[int]) -> dict[str, Any]:
    names = ["w"] * len(staleness)
    return {"kind": "merge", "seconds": seconds, "version": version, "merged": 2 * version, "staleness": staleness,
            "weights": [1.0] * len(staleness), "workers": names, "tasks": []}  # fmt: skip


def _evaluation(seconds: float, version: int, accuracy: float | None) -> dict[str, Any]:
    return {"kind": "evaluation", "seconds": seconds, "version": version, "merged": 2 * version, "loss": 2.0 / version,
            "accuracy": accuracy}  # fmt: skip


LINES = [
    *(_merge(0.25 * version, version, [version, 3 * version]) for version in range(1, 9)),
    _evaluation(2.1, 8, 0.5),
    {"kind": "rejection", "seconds": 2.2, "reason": "too_stale", "worker": "w", "task": "1-x"},
    {"kind": "reissue", "seconds": 2.3, "task": 4, "attempt": 2, "reason": "lost"},
    _evaluation(3.5, 9, None),
]
END = {"kind": "end", "seconds": 4.0, "state": "finished", "reason": "updates"}


def _run(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind":"mer')
    (folder / "spec.toml").write_text('[campaign]\nname = "digits"\n[model]\nfactory = "a:b"\nargs = { x = 1 }\n')
    return folder


def _points(lines: Iterable[dict[str, Any]]) -> list[Point]:
    return list(points(map(history_line, lines)))


def test_tensorboard_reads_it_back(tmp_path: Path) -> None:
    """Scalars by version in the run's own folder; exporting again replaces them."""
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    folder = _run(tmp_path / "run-1", [*LINES, END])
    for _ in range(2):
        result = export_run(folder, tensorboard=tmp_path / "boards", mlflow=None, follow=False)
    assert (result["run"], result["state"]) == ("run-1", "finished")
    board = EventAccumulator(str(tmp_path / "boards" / "run-1"))
    board.Reload()
    assert {"evaluation/loss", "evaluation/accuracy", "merges/staleness_mean"} <= set(board.Tags()["tensors"])
    losses = [
        (event.step, float(tensor_util.make_ndarray(event.tensor_proto))) for event in board.Tensors("evaluation/loss")
    ]
    assert losses == [(8, 0.25), (9, pytest.approx(2 / 9))]
    first, last = board.Tensors("merges/merged")[0], board.Tensors("merges/merged")[-1]
    assert last.wall_time - first.wall_time == pytest.approx(3.0, abs=0.6)


def test_mlflow_goes_on_where_it_was(tmp_path: Path) -> None:
    """One run per run folder, with the spec's keys; an export of a running campaign is completed by the next one."""
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    uri = f"file:{tmp_path}/store"
    folder = _run(tmp_path / "run-1", LINES)
    first = export_run(folder, tensorboard=None, mlflow=uri, follow=False)
    _run(folder, [*LINES, END])
    second = export_run(folder, tensorboard=None, mlflow=uri, follow=False)
    third = export_run(folder, tensorboard=None, mlflow=uri, follow=False)
    assert first["mlflow"] + second["mlflow"] == len(_points([*LINES, END]))
    assert (second["mlflow"] > 0, third["mlflow"]) == (True, 0)

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("digits")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("run-1", "FINISHED")
    assert run.data.params == {"campaign.name": "digits", "model.factory": "a:b", "model.args": "{'x': 1}"}
    history = client.get_metric_history(run.info.run_id, "evaluation/loss")
    assert [(metric.step, metric.value) for metric in history] == [(8, 0.25), (9, pytest.approx(2 / 9))]
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_growing_history_is_followed_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line once, also when the history is cut back and written again as after a crash."""
    monkeypatch.setattr(export, "FOLLOW_SECONDS", 0.02)
    folder = _run(tmp_path / "run-1", LINES[:6])
    got: list[Any] = []
    reader = HistoryReader(folder / "history.jsonl")
    thread = threading.Thread(target=lambda: got.extend(export.followed(reader)), daemon=True)
    thread.start()
    for lines in (LINES[:3], LINES, [*LINES, END]):
        threading.Event().wait(0.1)
        _run(folder, lines)
    thread.join(10)
    assert [line.to_map() for line in got] == [*LINES, END]


@pytest.mark.parametrize("targets", [{}, {"mlflow": "nonsense://there"}])
def test_what_cannot_be_is_a_sentence(tmp_path: Path, targets: dict[str, Any]) -> None:
    """No target, a store that is none, a folder that is no run: one sentence each."""
    wanted: dict[str, Any] = {"tensorboard": None, "mlflow": None, "follow": False, **targets}
    with pytest.raises(SpecError):
        export_run(_run(tmp_path / "run-1", LINES), **wanted)
    with pytest.raises(SpecError, match=r"history\.jsonl"):
        export_run(tmp_path / "nothing", **wanted)
    assert not (tmp_path / "nothing").exists()
