"""The training methods in whole campaigns: real Redis, real coordinators and workers, several campaigns at a time."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np

from tests.integration.lab import Lab, Program, assert_identity, until

TEST_SPLIT = {"data": "fl_core.data:digits", "data_args": {"split": "test"}}
WIDE = {"inputs": 64, "hidden": [24, 12], "classes": 10}
PUBLIC = {"split": "public", "shard": 0, "num_shards": 8}


def _start(lab: Lab, name: str, **sections: dict[str, Any]) -> Program:
    spec = lab.spec(f"{name}.toml", **{"campaign": {"name": name}, **sections})
    return lab.run(spec, out=name, name=f"coordinator-{name}")


def _end(lab: Lab, name: str, program: Program) -> dict[str, Any]:
    assert program.wait() == 0, program.output[-4000:]
    summary = lab.summary(name)
    assert_identity(summary)
    assert summary["rejected"] == {}
    return summary


def test_soft_labels_parts_and_important_elements(lab: Lab) -> None:
    """Two devices of unlike architecture serve three campaigns at once: a student learns from soft labels, parts of a
    model are merged, and top-k sends what Fisher's estimate ranks highest."""
    method_args = {
        "public_data": "fl_core.data:digits", "public_args": PUBLIC, "num_classes": 10, "student_epochs": 10,
        "student_learning_rate": 0.01,
    }  # fmt: skip
    distillation = _start(
        lab,
        "distillation",
        training={"method": "distillation", "method_args": method_args, "local_steps": 40, "learning_rate": 0.2},
        aggregation={"strategy": "distillation"},
        evaluation=TEST_SPLIT,
        stop={"updates": 16},
    )
    partial = _start(
        lab,
        "partial",
        training={"method": "partial", "method_args": {"groups": [["1."], ["3."]]}},
        aggregation={"strategy": "partial"},
        stop={"updates": 8},
    )
    topk = _start(lab, "topk", codec={"name": "topk", "fraction": 0.05, "importance": "fisher"}, stop={"updates": 8})
    lab.worker("plain", shard=0)
    lab.worker("wide", "--model", "fl_core.models:mlp", "--model-args", json.dumps(WIDE), shard=1)

    summary = _end(lab, "partial", partial)
    assert summary["merged"] == 8
    assert summary["bytes_up"] < 8 * 4 * summary["num_parameters"], "only parts have travelled"
    summary = _end(lab, "topk", topk)
    assert summary["bytes_up"] == 8 * 8 * int(np.ceil(0.05 * summary["num_parameters"]))
    summary = _end(lab, "distillation", distillation)
    num_public = 45
    assert summary["bytes_up"] == 16 * 4 * 10 * num_public
    assert set(summary["merged_by_worker"]) == {"plain", "wide"}
    assert summary["best_accuracy"] > 0.3
    kept = {
        path.name for name in ("plain", "wide") for path in (lab.folder / f"state-{name}").glob("memory/dist*/*.npy")
    }
    assert len(kept) == 2, "each device keeps a model of its own architecture"


def test_a_personal_model_outlives_its_worker(lab: Lab) -> None:
    """A worker that is started anew goes on from the personal model in its state directory, and its scores are told."""
    args = {"personal_rate": 0.0, "pull": 0.0, "meta_steps": 1}
    coordinator = _start(
        lab,
        "personal",
        training={"method": "personal", "method_args": args, "learning_rate": 1e-4},
        dispatch={"concurrency": 1},
        stop={"updates": 12},
    )
    first = lab.worker("clinic", delay=0.3)
    own = _own(lab.folder / "state-clinic", "personal")
    first.send(signal.SIGTERM)
    first.wait(20)
    assert coordinator.process.poll() is None
    planted = np.full_like(np.load(own), 0.5)
    np.save(own, planted)
    lab.worker("clinic")
    summary = _end(lab, "personal", coordinator)
    assert abs(np.load(own) - planted).mean() < 0.1, "it has gone on from what was on the disk"
    assert set(summary["device_scores"]) == {"clinic"}
    scores = summary["device_scores"]["clinic"]
    assert scores.keys() == {"personal_accuracy", "personal_loss", "global_accuracy", "global_loss"}
    assert summary["device_means"] == scores


def _own(state_dir: Path, name: str) -> Path:
    found: Path = until(lambda: next(state_dir.glob(f"memory/{name}*/{name}.npy"), None))
    return found
