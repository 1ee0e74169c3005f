"""What a launch needs is asked for before anything starts: packages, and the modules that a spec names."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.cli.launching import load_campaign
from fl_core.errors import SpecError
from fl_core.program import extras

SPEC = """
[model]
factory = "fl_core.models:mlp"
args = { inputs = 4, hidden = [5], classes = 3 }
[evaluation]
data = "fl_core.data:digits"
"""


def _load(folder: Path, more: str) -> None:
    path = folder / "spec.toml"
    path.write_text(SPEC + more)
    load_campaign(path, {})


@pytest.fixture
def _without_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    real = extras.importlib.util.find_spec
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name == "torchmetrics" else real(name))


@pytest.mark.usefixtures("_without_torchmetrics")
@pytest.mark.parametrize(
    "more",
    [
        'metrics = ["accuracy", "auc"]',
        '[stop]\nmetric = { name = "auc", at_least = 0.9 }',
        '[guard]\nmetric = "auc"',
        'metrics = ["torchmetrics.classification:MulticlassF1Score"]',
    ],
)
def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, more: str) -> None:
    """Whoever names the metric; those that need no package need none."""
    with pytest.raises(
        SpecError, match=r"torchmetrics, which is not installed here; pip install 'fedtide\[evaluation\]'"
    ):
        _load(tmp_path, more)
    _load(tmp_path, 'metrics = ["accuracy", "top_2_accuracy", "balanced_accuracy"]')


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ('metrics = [{ name = "mine", factory = "there_is_none:f" }]', "evaluation.metrics"),
        ('[training]\nloss = "there_is_none:f"', "training.loss"),
        ('[training]\nmethod = "there_is_none:f"', "training.method"),
        ('[aggregation]\nstrategy = "there_is_none:f"', "aggregation.strategy"),
        ('[codec]\nname = "there_is_none:f"', "codec.name"),
    ],
)
def test_a_missing_module_is_named_with_its_key(tmp_path: Path, more: str, key: str) -> None:
    """Each path that the coordinator follows is looked at, without importing it."""
    with pytest.raises(SpecError, match=f"^{key} = 'there_is_none:f': there is no module 'there_is_none' here"):
        _load(tmp_path, more)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ('{ name = "accuracy", at_least = 90 }', "'accuracy' at_least 90 can never be met, since the best is 1"),
        ('{ name = "perplexity", at_most = 0.5 }', "'perplexity' at_most 0.5 can never be met, since the best is 1"),
        ('{ name = "there_is_none", at_least = 0.5 }', "names 'there_is_none', which is no metric"),
    ],
)
def test_a_target_that_nothing_can_meet_is_refused(tmp_path: Path, target: str, words: str) -> None:
    """The campaign would never stop by its own condition."""
    with pytest.raises(SpecError, match=words):
        _load(tmp_path, f"[stop]\nmetric = {target}")
