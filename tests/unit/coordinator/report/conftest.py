"""A finished run's folder, made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
