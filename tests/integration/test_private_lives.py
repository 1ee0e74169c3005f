"""A private campaign whose broker and coordinator both lose their memory: what was spent stays spent."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import msgpack
import pytest
import redis
from safetensors import safe_open

from coordinator.storage.checkpoint_files import LocalFiles
from coordinator.storage.history import read_history
from coordinator.storage.spend_journal import SpendJournal
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.privacy.accountant import epsilon_of
from fl_core.wire.history import MergeLine
from tests.integration.lab import assert_identity, until
from tests.integration.stage import WORKER, Device, Stage

PRIVACY = {"mode": "central", "noise_multiplier": 20.0, "max_participations": 10**6}


def test_a_second_life_publishes_the_same_numbers_with_independent_noise_and_pays_for_both(
    broker_server: EmbeddedServer, client: redis.Redis, tmp_path: Path
) -> None:
    """The checkpoint is of version 10 or so, the broker empty: versions that were out come again with other contents.

    Each of them is another release, and the device has spent on all of them. At the end no file of the run holds the
    secret of the noise any more.
    """
    folder, before = tmp_path / "run", tmp_path / "before"
    sections = {
        "privacy": PRIVACY,
        "aggregation": {"buffer_size": 1},
        "checkpoint": {"every_merges": 10**6, "every_seconds": 600.0},
    }
    device = Device(broker_server.url)
    try:
        stage = Stage(broker_server.url, folder, **sections)
        until(lambda: stage.merged > 10)
        before.mkdir()
        for path in (folder / "checkpoint").glob("state-*"):
            shutil.copy(path, before)
        until(lambda: stage.merged > 30)
        stage.interrupt()
        for path in (folder / "checkpoint").glob("state-*"):
            path.unlink()
        for path in before.iterdir():
            shutil.copy(path, folder / "checkpoint")
        secret = max(before.glob("*.msgpack")).read_bytes()
        noise_secret = msgpack.unpackb(msgpack.unpackb(secret)["meta"])["state"]["privacy"]["noise_secret"]
        client.flushall()
        again = Stage(broker_server.url, folder, resume=True, **sections)
        until(lambda: again.merged > 30)
        summary = again.stop()
    finally:
        device.close()
    assert_identity(summary)
    spends = SpendJournal(LocalFiles(folder / "checkpoint"), 0).read()
    names, versions = {spend.release for spend in spends}, [spend.version for spend in spends]
    assert len(names) == len(spends) > 60
    assert len(versions) - len(set(versions)) > 20, "no number came twice; the test shows nothing"
    cost = sum(spend.costs[WORKER] for spend in spends)
    assert cost >= len(spends) * 0.5 / 20.0**2
    assert len(noise_secret) == 32
    assert not [path for path in folder.rglob("*") if path.is_file() and noise_secret in path.read_bytes()]
    promise = json.loads((folder / "privacy.json").read_text())
    with safe_open(folder / "model.safetensors", "np") as model:
        said = model.metadata()
    assert {name: said[f"dp_{name}"] for name in ("epsilon", "unit", "adjacency", "amplification")} == {
        "epsilon": str(promise["epsilon"]), "unit": "device", "adjacency": "zero-out", "amplification": "none"
    }  # fmt: skip
    privacy = summary["privacy"]
    assert promise["epsilon"] == privacy["epsilon"]
    last = [line for line in read_history(folder / "history.jsonl") if isinstance(line, MergeLine)][-1]
    assert last.epsilon == pytest.approx(privacy["epsilon"], abs=1e-5)
    assert privacy["epsilon"] >= epsilon_of(math.sqrt(cost), 1e-6) * (1 - 1e-9)
    assert privacy["releases"] == len(spends)
