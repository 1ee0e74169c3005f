"""Exports: every target gets what the history says, of a campaign that has ended and of one that runs."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from coordinator.report.exports import export
from coordinator.report.exports.export import export_run
from coordinator.report.exports.points import Point
from coordinator.storage.history import HistoryReader
from fl_core.errors import SpecError
from tests.unit.coordinator.report.exports.lines import END, LINES, points_of


def _run(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind":"mer')
    (folder / "spec.toml").write_text('[campaign]\nname = "digits"\n[model]\nfactory = "a:b"\nargs = { x = 1 }\n')
    return folder


class Collector:
    """Stands for TensorBoard or MLflow.

    Attributes:
        made: what each was made with.
        points: what all of them have taken.
        ended: in which state each was closed.
    """

    made: ClassVar[list[Any]] = []
    points: ClassVar[list[Point]] = []
    ended: ClassVar[list[str]] = []

    def __init__(self, *given: Any) -> None:
        self.made.append(given)

    def write(self, points: Iterable[Point]) -> int:
        new = list(points)
        self.points.extend(new)
        return len(new)

    def close(self, state: str) -> None:
        self.ended.append(state)


def test_each_target_gets_all_points_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the run's own name, and is told how the campaign stands; the moment it began comes from the file's age."""
    for kept in (Collector.made, Collector.points, Collector.ended):
        kept.clear()
    monkeypatch.setattr(export, "TensorBoard", Collector)
    monkeypatch.setattr(export, "Mlflow", Collector)
    folder = _run(tmp_path / "run-1", LINES)
    os.utime(folder / "history.jsonl", (5000, 5000))
    first = export_run(folder, tensorboard=tmp_path / "boards", mlflow=None, follow=False)
    _run(folder, [*LINES, END])
    second = export_run(folder, tensorboard=None, mlflow="http://there", follow=False)
    assert first == {"run": "run-1", "state": "", "tensorboard": len(points_of(LINES))}
    assert second == {"run": "run-1", "state": "finished", "mlflow": len(points_of([*LINES, END]))}
    assert Collector.points == points_of(LINES) + points_of([*LINES, END])
    assert Collector.ended == ["", "finished"]
    assert Collector.made[0] == (tmp_path / "boards" / "run-1", 5000 - LINES[-1]["seconds"])
    assert Collector.made[1][:3] == ("http://there", "run-1", folder / "spec.toml")


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


def test_what_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    """No target, or a folder that is no run: one sentence each."""
    wanted: dict[str, Any] = {"tensorboard": None, "mlflow": None, "follow": False}
    with pytest.raises(SpecError, match="nothing to export to"):
        export_run(_run(tmp_path / "run-1", LINES), **wanted)
    with pytest.raises(SpecError, match=r"history\.jsonl"):
        export_run(tmp_path / "nothing", **wanted)
    assert not (tmp_path / "nothing").exists()
