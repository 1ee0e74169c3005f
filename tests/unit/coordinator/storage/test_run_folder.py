"""A run's folder: what is in it is whole, and it is complete only when nothing is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coordinator.storage.run_folder import COMPLETE, RunFolder
from coordinator.storage.tensor_file import read_tensor_file
from fl_core.errors import CampaignError, SpecError
from fl_core.vectors import Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout((TensorSpec("weight", (2, 2)),))


def _write_model(folder: RunFolder) -> None:
    values = Parameters(np.arange(4, dtype=np.float32))
    folder.write_model(values, LAYOUT, {"version": "7"}, {"tied": "weight", "mask": np.array([True])})


def test_a_model_has_what_the_layout_leaves_out_as_well(tmp_path: Path) -> None:
    """Another name of a tensor, and values that no version carries."""
    folder = RunFolder(tmp_path / "run")
    _write_model(folder)
    with folder.model.open("rb") as file:
        tensors = read_tensor_file(file)
    assert tensors["tied"].tolist() == tensors["weight"].tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert tensors["mask"].tolist() == [True]


def test_it_is_complete_when_all_is_there(tmp_path: Path) -> None:
    """And for the campaign that ended there, no other."""
    folder = RunFolder(tmp_path)
    folder.mark_complete("digits-1")
    assert not folder.is_complete("digits-1")
    _write_model(folder)
    folder.write_summary({"loss": float("nan")})
    assert (folder.is_complete("digits-1"), folder.is_complete("digits-2")) == (True, False)
    assert json.loads(folder.summary.read_text()) == {"loss": None}
    (tmp_path / COMPLETE).unlink()
    assert not folder.is_complete("digits-1")


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """A file in the place of the folder, and a folder in the place of a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="name a folder that can be written"):
        RunFolder(tmp_path / "file" / "run")
    folder = RunFolder(tmp_path)
    folder.summary.mkdir()
    with pytest.raises(CampaignError, match=r"summary\.json cannot be written .* go on with --resume"):
        folder.write_summary({})
    folder.spec.mkdir()
    with pytest.raises(CampaignError, match="start again"):
        folder.write_spec("")
