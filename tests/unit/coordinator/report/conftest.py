"""Finished runs' folders: one made by hand, and one of a campaign in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.campaign.state import CampaignState
from coordinator.campaign.summary import Summary, summarise
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.run_folder import RunFolder
from fl_core.models.build import build_model
from fl_core.vectors.layout import Layout

EVIL = "<script>alert(1)</script>"


def _run(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    summary = {
        "campaign": "digits-1", "state": "finished", "stop_reason": "updates", "strategy": "fedbuff", "versions": 2,
        "issued": 7, "merged": 4, "rejected": {"too_stale": 1}, "expired": 0, "cancelled": 2, "out": 0, "reissued": 1,
        "surplus": {"duplicate": 1}, "wall_seconds": 9.5, "updates_per_second": 0.42,
        "staleness": {"mean": 0.5, "p50": 0, "p95": 1, "max": 1}, "final_accuracy": 0.9, "best_accuracy": 0.9,
        "final_loss": 0.3, "best_loss": 0.3, "seconds_to": {"0.50": 3.0}, "num_parameters": 1234, "bytes_up": 10,
        "bytes_down": 20, "merged_by_worker": {"a": 3, EVIL: 1},
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps({**summary, **changes}))
    (folder / "spec.toml").write_text(f'[campaign]\nname = "{EVIL}"\n[x]\nplace = "s3://key:s3cret@bucket"\n')
    lines = [
        {"kind": "evaluation", "seconds": 1.0, "version": 0, "merged": 0, "loss": 2.3, "accuracy": 0.1},
        {"kind": "merge", "seconds": 3.0, "version": 1, "merged": 2, "staleness": [0, 1], "weights": [1.0, 0.7],
         "workers": ["a", EVIL], "tasks": [1, 2]},
        {"kind": "rejection", "seconds": 4.0, "reason": "too_stale", "worker": EVIL, "task": "3-a"},
        {"kind": "reissue", "seconds": 5.0, "task": 4, "attempt": 2, "reason": "lost"},
        {"kind": "merge", "seconds": 8.0, "version": 2, "merged": 4, "staleness": [0, 1], "weights": [1.0, 0.7],
         "workers": ["a", "a"], "tasks": [5, 6]},
        {"kind": "evaluation", "seconds": 9.0, "version": 2, "merged": 4, "loss": 0.3, "accuracy": 0.9},
    ]  # fmt: skip
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def finished() -> Callable[..., Path]:
    """Makes one; keywords replace what its summary says."""
    return _run


LINEAR = {"factory": "torch.nn:Linear", "args": {"in_features": 64, "out_features": 1, "bias": False}}


@dataclass(frozen=True, slots=True)
class Left:
    """A run's folder, and the state of its last checkpoint.

    Attributes:
        history_bytes: how long the history was at the checkpoint.
    """

    folder: RunFolder
    state: CampaignState
    layout: Layout
    summary: Summary
    history_bytes: int


@pytest.fixture
def left(bench: Callable[..., Any], tmp_path: Path) -> Left:
    """By a default run of six merged updates; with a line of the history that is newer than the checkpoint."""
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
    return Left(folder, state, layout, summary, len(lines))


@pytest.fixture
def run(left: Left) -> Path:
    """The same one's folder."""
    return left.folder.path
