"""A simulation's folder, and what is refused before it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fedtide
from fl_core.data import digits

SPEC: dict[str, Any] = {
    "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [], "classes": 10}},
    "training": {"local_steps": 1},
    "stop": {"updates": 20},
}
TEST = {"data": "fl_core.data:digits", "data_args": {"split": "test"}}


def test_a_number_of_devices_is_enough(tmp_path: Path) -> None:
    """They have what the campaign is not scored by."""
    run = fedtide.simulate({**SPEC, "evaluation": TEST}, 50, out=tmp_path / "run")
    assert run.summary["merged"] == 20 and run.summary["final_accuracy"] is not None
    assert {path.name for path in run.folder.iterdir()} > {"simulation.json", "report.html", "curves.png"}


@pytest.mark.parametrize(
    ("spec", "devices", "profile", "words"),
    [
        (SPEC, 5, None, "nothing says what data devices have"),
        ({**SPEC, "evaluation": {"data": f"{__name__}:whole"}}, 5, None, "takes no split"),
        ({**SPEC, "evaluation": TEST}, 0, None, "devices = 0"),
        ({**SPEC, "evaluation": TEST}, 5, {"devices": [{"queue": "gpu"}]}, "serves queue 'gpu'"),
        (SPEC, [fedtide.SimulatedDevice("a", digits())], {}, "devices are given, and a profile"),
        ({**SPEC, "evaluation": TEST}, None, None, "how many devices"),
    ],
)
def test_what_does_not_fit_is_said(spec: dict[str, Any], devices: Any, profile: Any, words: str) -> None:
    """In one sentence each."""
    with pytest.raises(fedtide.SpecError, match=words):
        fedtide.simulate(spec, devices, profile=profile)


def whole() -> Any:
    """Data that is not divided into training and test."""
    return digits()
