"""What TensorBoard reads back is what was written to it, and an export replaces the one before."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.report.exports.points import Point
from coordinator.report.exports.tensorboard import TensorBoard
from fl_core.errors import SpecError

pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")

POINTS = [
    Point(2.0, 8, {"evaluation/loss": 0.25, "evaluation/accuracy": 0.5}),
    Point(3.5, 9, {"evaluation/loss": 0.125}),
]


def test_scalars_stand_at_their_version_and_time(tmp_path: Path) -> None:
    """Exporting again replaces them; what else lies in the folder stays."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    (tmp_path / "notes.txt").write_text("mine")
    for _ in range(2):
        board = TensorBoard(tmp_path, 1000.0)
        assert board.write(POINTS) == 2
        board.close("finished")
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    assert (tmp_path / "notes.txt").is_file()
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    found = {
        name: [
            (event.wall_time, event.step, float(tensor_util.make_ndarray(event.tensor_proto)))
            for event in read.Tensors(name)
        ]
        for name in read.Tags()["tensors"]
    }
    assert found == {
        "evaluation/loss": [(1002.0, 8, 0.25), (1003.5, 9, 0.125)],
        "evaluation/accuracy": [(1002.0, 8, 0.5)],
    }


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    """It names the folder and what to do."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpecError, match=r"--tensorboard: .*file/run-1 cannot be written \(.*\); name another"):
        TensorBoard(tmp_path / "file" / "run-1", 0.0)
