"""A doorbell is anybody's: nothing is built for it before its claim, and then only what the device allows."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from fl_core.broker.bulk import blobs
from fl_core.broker.bulk.versions import order_commands
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.models.build import build_model
from fl_core.vectors.layout import Layout
from fl_core.wire.digest import digest
from fl_core.wire.messages import ModelUpdate, TaskReport, TrainTask
from tests.unit.coordinator.stand_ins import sent
from tests.unit.workers import tasks
from workers.breaker import Breakers
from workers.child.train_task import Trainer
from workers.passing import Passing
from workers.pulse import Pulse
from workers.settings import WorkerSettings

ARGS: dict[str, Any] = {"inputs": 64, "hidden": [4], "classes": 10}
LAYOUT = Layout.of(build_model("fl_core.models:mlp", ARGS, seed=0))
TASK = replace(tasks.TASK, model_args=ARGS, layout_digest=LAYOUT.digest, training={"local_steps": 1})
KEYS = CampaignKeys(TASK.campaign)
OWN = "from fl_core.models import mlp\ndef net(**a): return mlp(**a)\n"


class Device:
    """A worker's training half, and the campaign that it works for."""

    def __init__(self, client: redis.Redis, url: str, folder: Path, *allow: str, **more: Any) -> None:
        settings = WorkerSettings(
            broker=url, data="fl_core.data:digits", name="pi", state_dir=folder, allow=allow,
            data_args={"shard": 0, "num_shards": 50}, **more,
        )  # fmt: skip
        self.client = client
        self.breakers = Breakers()
        self.trainer = Trainer(settings, Pulse(), self.breakers, Passing(self.breakers))
        payload = np.zeros(LAYOUT.num_elements, np.float32).tobytes()
        blobs.put(client, KEYS.version(0), payload)
        head = {"version": 0, "digest": digest(payload), "num_bytes": len(payload), "num_chunks": 1}
        client.hset(KEYS.head, mapping=head)
        self.version_bytes = len(payload)

    def do(self, task: TrainTask, *, wanted: bool = True) -> list[ModelUpdate | TaskReport]:
        """Ring for a task, which the coordinator waits for or not; what has come into the inbox."""
        if wanted:
            self.client.hset(KEYS.open_tasks, task.task_id, f"{task.attempt}|0|default")
        self.client.delete(KEYS.inbox)
        self.client.set(KEYS.incarnation, "now", nx=True)  # a test may have ended it
        for command in order_commands(KEYS, task.order.to_bytes()):
            self.client.execute_command(*command)
        self.breakers.worked(task.campaign)  # whatever failed before, this one is tried
        self.trainer.execute(task.call.to_bytes())
        return [
            ModelUpdate.from_bytes(header) if kind == "u" else TaskReport.from_bytes(header)
            for kind, header, _ in sent(self.client, KEYS)
        ]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's own module."""
    name = f"own_model_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_doorbell_that_nobody_waits_for_builds_nothing(
    client: redis.Redis, broker_server: EmbeddedServer, tmp_path: Path, own: str
) -> None:
    """Even an allowed module is not imported for it, and nothing is reported."""
    device = Device(client, broker_server.url, tmp_path, own)
    assert device.do(replace(TASK, model_factory=f"{own}:net"), wanted=False) == []
    assert own not in sys.modules


def test_a_name_that_is_not_allowed_ends_its_task_and_not_the_worker(
    client: redis.Redis, broker_server: EmbeddedServer, tmp_path: Path, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever in a task names code: the report says in one sentence which name it is, and what would permit it."""
    device = Device(client, broker_server.url, tmp_path)
    mark = tmp_path / "owned"
    command = {"command": f"touch {mark}"}
    distil = {"num_classes": 10, "public_args": command, "public_data": "os:system"}
    forged = {
        "os:system": [
            {"model_factory": "os:system", "model_args": command},
            {"model_factory": "fl_core.models:lora", "model_args": {"factory": "os:system", "args": command}},
            {"codec": "os:system", "codec_args": command},
            {"training": {"method": "distillation", "method_args": distil}, "sends": "soft_labels"},
            {"training": {"loss": "os:system"}},
            {"training": {"method": "os:system"}},
        ],
        f"{own}:net": [{"model_factory": f"{own}:net"}],
    }
    monkeypatch.setattr("time.sleep", lambda _: None)  # it would wait after each failure
    for name, orders in forged.items():
        for number, order in enumerate(orders):
            (report,) = device.do(replace(TASK, task_id=f"2-{len(name)}-{number}", **order))
            assert isinstance(report, TaskReport)
            assert report.outcome == "failed"
            assert f"{name!r} is not allowed on this device" in report.detail, report.detail
            assert f"--allow {name} " in report.detail
            assert "\n" not in report.detail
    assert not mark.exists()
    assert own not in sys.modules
    (update,) = device.do(TASK)
    assert isinstance(update, ModelUpdate)


def test_what_is_allowed_is_trained_and_the_version_comes_with_the_claim(
    client: redis.Redis, broker_server: EmbeddedServer, tmp_path: Path, own: str
) -> None:
    """The small version's bytes come once, with the claim, and are there when the model has been built."""
    device = Device(client, broker_server.url, tmp_path, own)
    task = replace(TASK, model_factory=f"{own}:net")
    (update,) = device.do(task)
    assert isinstance(update, ModelUpdate)
    assert (update.base_version, update.bytes_down) == (0, device.version_bytes)
    (again,) = device.do(replace(task, task_id="2-abc"))
    assert isinstance(again, ModelUpdate)
    assert again.bytes_down == 0
