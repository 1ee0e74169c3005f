"""`fedtide show`: the model of a run's folder, as it was left, in the hands of whatever the spec names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from coordinator.cli import fedtide
from coordinator.launch.leavings import show_at_end
from coordinator.report.show import load_model, show_run
from coordinator.storage.run_folder import RunFolder
from fl_core.errors import SpecError
from fl_core.models import mlp
from fl_core.spec import CampaignSpec, parse_spec, to_toml
from fl_core.vectors.layout import Layout


def show(model: torch.nn.Module, summary: dict[str, Any], folder: Path, word: str = "loss") -> str:
    """A user's show."""
    assert not model.training
    return f"{word} {summary['final_loss']} in {folder.name}"


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> CampaignSpec:
    """A campaign that shows something at its end."""
    module = ModuleType("users_shows")
    module.show = show  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_shows", module)
    return parse_spec(
        {
            "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 3, "hidden": [4], "batch_norm": True}},
            "evaluation": {"show": "users_shows:show", "show_args": {"word": "Loss"}},
        }
    )


@pytest.fixture
def run(tmp_path: Path, spec: CampaignSpec) -> tuple[Path, torch.nn.Module]:
    """A finished run's folder, and the model that it holds."""
    model = mlp(inputs=3, hidden=[4], batch_norm=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
        model[2].running_mean.normal_()
    layout = Layout.of(model)
    folder = RunFolder(tmp_path / "run")
    folder.write_spec(to_toml(spec))
    folder.write_summary({"final_loss": 0.25, "state": "finished"})
    folder.write_model(layout.flatten(model), layout, {})
    return folder.path, model.eval()


def test_the_model_is_the_one_that_was_left(run: tuple[Path, torch.nn.Module]) -> None:
    """Loaded from the folder it gives the same outputs, running statistics included."""
    folder, model = run
    x = torch.randn(5, 3)
    torch.testing.assert_close(load_model(folder)(x), model(x))


def test_a_run_shows_what_its_spec_names(run: tuple[Path, torch.nn.Module]) -> None:
    """The show gets model, summary, folder and arguments; the command line can change these; the text is kept."""
    folder, _ = run
    assert show_run(folder) == "Loss 0.25 in run"
    done = CliRunner().invoke(fedtide, ["show", str(folder), "--arg", "word=A loss of"])
    assert (done.exit_code, done.output) == (0, "A loss of 0.25 in run\n")
    assert (folder / "show.txt").read_text() == "A loss of 0.25 in run\n"


def test_a_show_that_fails_does_not_fail_the_campaign(run: tuple[Path, torch.nn.Module], spec: CampaignSpec) -> None:
    """At the end of a run a show that fails is named as left out; an interrupted run shows nothing."""
    folder, _ = run
    finished: dict[str, Any] = {"state": "finished"}
    assert show_at_end(spec, folder, finished) == "Loss 0.25 in run"
    (folder / "summary.json").write_text(json.dumps({}))
    assert show_at_end(spec, folder, finished) == ""
    (said,) = finished["left_out"]
    assert said.startswith(
        "evaluation.show: evaluation.show = 'users_shows:show' failed with {'word': 'Loss'}: KeyError"
    )
    assert show_at_end(spec, folder, {"state": "interrupted"}) == ""


def test_what_cannot_be_shown_is_said(run: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    """No run, no show, an argument that the show does not take, an argument without a value."""
    folder, _ = run
    with pytest.raises(SpecError, match="holds no finished run"):
        show_run(tmp_path)
    with pytest.raises(SpecError, match=r"users_shows:show.*colour"):
        show_run(folder, {"colour": 3})
    assert CliRunner().invoke(fedtide, ["show", str(folder), "--arg", "word"]).exit_code == 2
    text = (folder / "spec.toml").read_text()
    (folder / "spec.toml").write_text(
        text.replace('show = "users_shows:show"', "").replace("[evaluation.show_args]", "").replace('word = "Loss"', "")
    )
    with pytest.raises(SpecError, match="nothing to show"):
        show_run(folder)


def test_arguments_need_a_show() -> None:
    """show_args alone are a mistake in the spec."""
    with pytest.raises(SpecError, match="show_args without show"):
        parse_spec({"model": {"factory": "fl_core.models:mlp"}, "evaluation": {"show_args": {"a": 1}}})
