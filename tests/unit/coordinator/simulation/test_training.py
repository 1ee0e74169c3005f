"""When training is computed: at the claim, or many at once, with the same course of the campaign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedtide

SPEC: dict[str, Any] = {
    "campaign": {"name": "sim", "seed": 1},
    "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [], "classes": 10}},
    "training": {"local_epochs": 1, "batch_size": 4, "learning_rate": 0.1},
    "aggregation": {"buffer_size": 5, "max_staleness": 100},
    "dispatch": {"concurrency": 40},
    "evaluation": {"data": "fl_core.data:digits", "data_args": {"split": "test"}},
}
PROFILE: dict[str, Any] = {
    "data": {"examples": {"kind": "uniform", "least": 3.0, "most": 30.0}, "partition": "dirichlet"},
    "devices": [{"drop_out": 0.1, "up_bytes_per_second": 1e4}],
}


def _run(out: Path, way: Any, **sections: dict[str, Any]) -> fedtide.Run:
    return fedtide.simulate({**SPEC, **sections}, 300, profile=PROFILE, updates=120, training=way, out=out)


def _course(run: fedtide.Run) -> list[Any]:
    return [(row["seconds"], row["workers"], row["staleness"]) for row in run.history() if row["kind"] == "merge"]


@pytest.mark.parametrize("codec", ["fp32", "topk"])
def test_together_is_the_course_of_one_by_one(tmp_path: Path, codec: str) -> None:
    """Who arrives when, and how stale; the model is the same to rounding, and the same to the bit at every run."""
    section = {"codec": {"name": codec, **({"fraction": 0.2} if codec == "topk" else {})}}
    alone, together, again = (
        _run(tmp_path / f"{way}-{n}", way, **section) for n, way in enumerate(("one_by_one", "together", "together"))
    )
    assert _course(alone) == _course(together)
    assert together.summary == again.summary
    assert alone.summary["final_accuracy"] == pytest.approx(together.summary["final_accuracy"], abs=0.02)
    first, second = (run.model() for run in (alone, together))
    for name, tensor in first.state_dict().items():
        np.testing.assert_allclose(tensor.numpy(), second.state_dict()[name].numpy(), atol=1e-4)
    assert '"training": "together"' in (tmp_path / "together-1" / "simulation.json").read_text()


def test_what_cannot_train_together_trains_one_by_one(tmp_path: Path) -> None:
    """By itself where it may be either, and says why; it is refused where it was asked for."""
    spec = {"training": {**SPEC["training"], "optimizer": "adam"}}
    run = _run(tmp_path / "auto", "auto", **spec)
    assert run.summary["merged"] == 120
    assert "'adam' is not 'sgd'" in (tmp_path / "auto" / "simulation.json").read_text()
    with pytest.raises(fedtide.SpecError, match=r"cannot train together: .*'adam'"):
        _run(tmp_path / "together", "together", **spec)


def test_a_model_that_cannot_be_mapped_over_trains_one_by_one(tmp_path: Path) -> None:
    """What is found by trying costs nothing: no task is lost."""
    spec = {"model": {"factory": "tests.unit.coordinator.simulation.test_training:by_value", "args": {}}}
    auto, alone = (_run(tmp_path / way, way, **spec) for way in ("auto", "one_by_one"))
    assert auto.summary["model_digest"] == alone.summary["model_digest"]
    assert "cannot be mapped over" in (tmp_path / "auto" / "simulation.json").read_text()


def by_value() -> Any:
    """A model whose way hangs on its values."""
    import torch
    from torch import nn

    class ByValue(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = super().forward(inputs)
            return output if output.sum() > 0 else output * 0.5

    return ByValue(64, 10)
