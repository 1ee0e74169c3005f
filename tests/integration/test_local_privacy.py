"""Tasks with local noise on a device: what leaves it, what is counted, and that it stops when nothing is left."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.privacy.terms import Terms
from fl_core.wire.messages import ModelUpdate, TaskReport
from tests.integration.test_claim_first import KEYS, LAYOUT, TASK, Device
from tests.unit.coordinator.stand_ins import sent
from workers.child import train_task

TERMS = Terms("local", 0.5, 4.0, 1e-6, 2)
PRIVATE = replace(TASK, privacy=TERMS.order())


def deltas(device: Device, update: ModelUpdate) -> np.ndarray:
    """What an update says, as anybody at the broker can read it."""
    (payload,) = [payload for kind, _, payload in sent(device.client, KEYS) if kind == "u" and not update.blob]
    return np.frombuffer(payload, np.float32)[: LAYOUT.num_parameters]


def test_a_device_gives_what_it_may_and_then_hands_back(
    client: redis.Redis, broker_server: EmbeddedServer, tmp_path: Path
) -> None:
    """Noise in each element, a line before each, nothing said beside it; then one sentence, also after a restart."""
    device = Device(client, broker_server.url, tmp_path)
    updates = []
    for number in range(2):
        (update,) = device.do(replace(PRIVATE, task_id=f"{number}-abc"))
        assert isinstance(update, ModelUpdate)
        assert (update.metrics, update.num_examples) == ({}, 1)
        updates.append(deltas(device, update))
    for values in updates:
        assert np.std(values) == pytest.approx(0.5 * 4.0, rel=0.2)
    assert abs(np.corrcoef(*updates)[0, 1]) < 0.3
    lines = [json.loads(line) for line in (tmp_path / "privacy/spent.jsonl").read_text().splitlines()]
    tasks = ["0-abc", "1-abc"]
    assert [line["task"] for line in lines] == tasks
    for again in (device, Device(client, broker_server.url, tmp_path)):
        (report,) = again.do(replace(PRIVATE, task_id=f"{len(tasks)}-abc"))
        tasks.append(report.task_id)
        assert isinstance(report, TaskReport)
        assert report.outcome == "budget_spent"
        assert f"given campaign {TASK.campaign} 2 updates with noise, epsilon = 3.3" in report.detail
        assert "epsilon = 3.3" in again.breakers.trouble()
        assert again.breakers.choose(PRIVATE.call) is None  # it waits, and passes doorbells on
    (other,) = device.do(replace(TASK, task_id="9-abc"))
    assert isinstance(other, ModelUpdate)  # its owner has set no limit


def test_what_an_error_says_stays_on_the_device(
    client: redis.Redis, broker_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may quote the data; and a task that fails has given nothing away."""
    device = Device(client, broker_server.url, tmp_path)

    def fails(*_: Any) -> Any:
        raise ValueError("no such illness: flu of John Smith")

    monkeypatch.setattr(train_task, "do_task", fails)
    (report,) = device.do(PRIVATE)
    assert isinstance(report, TaskReport)
    assert report.detail == "ValueError; the campaign is private, so that only the log of this device has more"
    assert "Smith" not in device.breakers.trouble()
    assert not (tmp_path / "privacy").exists()
    (report,) = device.do(replace(TASK, task_id="8-abc"))
    assert "Smith" in report.detail


def test_the_owner_s_limit(client: redis.Redis, broker_server: EmbeddedServer, tmp_path: Path) -> None:
    """One update of two fits below it, and no campaign gets an update without noise."""
    device = Device(client, broker_server.url, tmp_path, max_epsilon=2.5)
    (report,) = device.do(replace(TASK, task_id="9-abc"))
    assert (report.outcome, "--max-epsilon 2.5" in report.detail) == ("budget_spent", True)
    (update,) = device.do(replace(PRIVATE, task_id="1-abc"))
    assert isinstance(update, ModelUpdate)
    (report,) = device.do(replace(PRIVATE, task_id="2-abc"))
    assert report.detail.startswith("--max-epsilon 2.5 is spent")
