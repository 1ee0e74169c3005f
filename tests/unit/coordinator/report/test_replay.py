"""`fedtide replay` of a run that did not keep its log: what is left is held against itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from coordinator.campaign.rules import RULES, rules_of
from coordinator.campaign.summary import summarise
from coordinator.cli import fedtide
from coordinator.report.replay import replay_run
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.kept_log import KeptLog
from coordinator.storage.run_folder import RunFolder
from fl_core.models.build import build_model
from fl_core.vectors.layout import Layout

LINEAR = {"factory": "torch.nn:Linear", "args": {"in_features": 64, "out_features": 1, "bias": False}}


@pytest.fixture
def run(bench: Callable[..., Any], tmp_path: Path) -> Path:
    """What a default run of six merged updates leaves, and a line of the history that is newer than the checkpoint."""
    campaign = bench(model=LINEAR, aggregation={"buffer_size": 2, "max_update_norm": 5.0}, stop={"updates": 6}).open(9)
    campaign.apply(campaign.reissued(3, 1), campaign.update(9, values=np.ones(64, np.float32) * 9))
    campaign.apply(*(campaign.update(number, worker=f"pi-{number % 2}") for number in range(1, 7)))
    state, spec = campaign.state, campaign.spec
    assert state.phase.is_over
    folder = RunFolder(tmp_path / "run")
    lines = "".join(json.dumps(line) + "\n" for line in campaign.history)
    folder.history.write_text(lines + '{"kind": "phase", "seconds": 9.0, "state": "paused"}\n')
    layout = Layout.of(build_model(spec.model.factory, spec.model.args, spec.campaign.seed), spec.model.buffers)
    summary = summarise("digits-1", spec, state, layout)
    folder.write_summary(summary)
    folder.write_model(state.strategy.parameters, layout, {})
    tensors, meta = state.export()
    CheckpointStore(str(folder.checkpoint)).save(
        1,
        tensors,
        {
            "state": meta,
            "identity": ["digits-1", b"s" * 32, "epoch", 0],
            "spec": spec.model_dump(mode="json"),
            "layout": layout.to_map(),
            "history_bytes": len(lines),
        },
    )
    return folder.path


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


def _turn_a_bit(run: Path) -> None:
    data = bytearray((run / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (run / "model.safetensors").write_bytes(data)


def _change(file: str, before: str, after: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        text = (run / file).read_text()
        assert before in text
        (run / file).write_text(text.replace(before, after, 1))

    return change


def _without(file: str, word: str) -> Callable[[Path], None]:
    def drop(run: Path) -> None:
        lines = (run / file).read_text().splitlines(keepends=True)
        (run / file).write_text("".join(line for line in lines if word not in line))

    return drop


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (_turn_a_bit, "model"),
        (_change("summary.json", '"merged": 6', '"merged": 7'), "counts"),
        (_change("summary.json", '"model_digest": "', '"model_digest": "0'), "counts"),
        (_change("history.jsonl", "pi-1", "pi-0"), "history"),
        (_change("history.jsonl", '"tasks": [1, 2]', '"tasks": [3, 4]'), "history"),
        (_without("history.jsonl", '"kind": "reissue"'), "history"),
        (_change("history.jsonl", "norm_exceeded", "norm_accepted"), "history"),
    ],
)
def test_what_was_changed_is_named(run: Path, change: Callable[[Path], None], part: str) -> None:
    """One bit of the model, a count, a merge of the same task twice, a missing line: that part alone contradicts."""
    change(run)
    result = replay_run(run)
    assert [name for name in ("model", "history", "counts") if not result[name]] == [part]
    told = CliRunner().invoke(fedtide, ["replay", str(run)])
    assert told.exit_code == 1
    assert f"the {part} CONTRADICT it" in told.output


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: (run / "model.safetensors").unlink(), "is missing or damaged"),
        (lambda run: (run / "summary.json").write_text("{"), "is missing or damaged"),
        (_change("history.jsonl", '"kind": "reissue"', '"kind": "another"'), "is damaged at byte 0"),
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
