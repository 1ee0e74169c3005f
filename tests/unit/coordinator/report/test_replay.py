"""`fedtide replay` of a run that did not keep its log: what is left is held against itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from coordinator.campaign.rules import RULES, rules_of
from coordinator.cli import fedtide
from coordinator.report.replay import replay_run
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.kept_log import KeptLog
from coordinator.storage.run_folder import RunFolder
from tests.unit.coordinator.report.conftest import LINEAR


def test_a_default_run_agrees_with_itself(run: Path) -> None:
    """Nothing is merged again, which is said, and all that is left says the same; the exit code is 0."""
    result = replay_run(run)
    assert result == {
        "campaign": "digits-1", "log_kept": False, "entries": 10, "versions": 3, "merged": 6,
        "model": True, "history": True, "counts": True, "equal": True,
    }  # fmt: skip
    told = CliRunner().invoke(fedtide, ["replay", str(run)])
    assert told.exit_code == 0, told.output
    assert "The log was not kept (checkpoint.keep_log), so nothing was merged again." in told.output
    assert (
        "10 entries, 3 versions, 6 updates merged: the model, the history and the counts agree with it." in told.output
    )


def test_what_contradicts_is_named(run: Path) -> None:
    """And the exit code is 1; which parts there are is in ``test_agreement.py``."""
    text = (run / "summary.json").read_text()
    (run / "summary.json").write_text(text.replace('"merged": 6', '"merged": 7', 1))
    told = CliRunner().invoke(fedtide, ["replay", str(run)])
    assert told.exit_code == 1
    assert "the counts CONTRADICT it" in told.output


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: (run / "model.safetensors").unlink(), "is missing or damaged"),
        (lambda run: (run / "summary.json").write_text("{"), "is missing or damaged"),
        (lambda run: (run / "history.jsonl").write_text('{"kind": "another"}\n' * 99), "is damaged at byte 0"),
        (lambda run: (run / "checkpoint").rename(run / "elsewhere"), "there is no checkpoint in"),
        (lambda run: run.rename(run.parent / "other"), "there is no folder"),
    ],
)
def test_what_is_not_there_is_one_sentence(run: Path, spoil: Callable[[Path], Any], said: str) -> None:
    """And exit code 2; a folder that was not there is not made."""
    spoil(run)
    before = run.exists()
    told = CliRunner().invoke(fedtide, ["replay", str(run)])
    assert told.exit_code == 2
    assert said in " ".join(told.output.split())
    assert run.exists() == before


def test_checkpoints_elsewhere_are_found_by_the_spec(run: Path) -> None:
    """A run with a ``checkpoint.url`` has no checkpoints of its own."""
    elsewhere = run.parent / "shared"
    (run / "checkpoint").rename(elsewhere)
    (run / "spec.toml").write_text(f'[model]\nfactory = "torch.nn:Linear"\n[checkpoint]\nurl = "{elsewhere}"\n')
    assert replay_run(run)["equal"]


@pytest.mark.parametrize("rules", [None, [1], [1, RULES], [RULES]])
def test_a_log_of_other_rules_says_so(bench: Callable[..., Any], tmp_path: Path, rules: list[int] | None) -> None:
    """A kept log that another release has applied may come to something else: that is one sentence, not a riddle."""
    campaign = bench(model=LINEAR, aggregation={"buffer_size": 2}, checkpoint={"keep_log": True}).open(4)
    campaign.apply(*(campaign.update(number) for number in (1, 2)))
    folder, spec = RunFolder(tmp_path / "run"), campaign.spec
    folder.history.write_text("".join(json.dumps(line) + "\n" for line in campaign.history))
    kept = KeptLog(folder.kept_log, (), 1, b"s" * 32)
    for entry in campaign.entries:
        kept.note(entry)
    kept.sync()
    campaign.state.strategy.parameters.values[0] += 1  # what the other release came to
    tensors, meta = campaign.state.export()
    about = {} if rules is None else {"rules": rules}
    CheckpointStore(str(folder.checkpoint)).save(1, tensors, {
        "state": meta, "identity": ["digits-1", b"s" * 32, "epoch", 0],
        "spec": spec.model_dump(mode="json"), "history_bytes": 0, "kept_log": kept.parts, **about,
    })  # fmt: skip
    kept.close()
    told = CliRunner().invoke(fedtide, ["replay", str(folder.path)])
    assert told.exit_code == 1
    assert "NOT the same" in told.output
    assert ("written by another release of fedtide" in told.output) == (rules != [RULES])


def test_rules_add_up_over_resumes() -> None:
    """A campaign that this release resumes has entries of both; one from before had no number."""
    assert rules_of(None) == [RULES]
    assert rules_of({"rules": [RULES]}) == [RULES]
    assert rules_of({}) == [1, RULES]
