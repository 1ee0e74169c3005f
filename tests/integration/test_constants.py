"""What no version carries: written once, found again where it was lost, fetched by who has built other values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import redis

from coordinator.outgoing.publisher import Publisher
from coordinator.telemetry.timing import Timing
from fl_core.broker.bulk.places import Places
from fl_core.broker.bulk.versions import order_commands, read_head
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.overview import leftovers
from fl_core.broker.tasks import TaskBroker
from fl_core.errors import MissingBlob
from fl_core.models.build import build_model
from fl_core.spec import TrainingSection
from fl_core.training.method import build_method
from fl_core.vectors.agreement import constants_digest
from fl_core.vectors.layout import Layout
from fl_core.wire.messages import TrainTask
from tests.integration.lab import Lab, assert_identity
from tests.integration.test_patches import AtOnce, Model
from workers.store.model_cache import CachedModel

FACTORY = "fl_core.models:lora"
ARGS: dict[str, Any] = {
    "factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [256], "classes": 10}, "rank": 2,
}  # fmt: skip
KEYS = CampaignKeys("digits-1")


def _device(seed: int) -> CachedModel:
    module = build_model(FACTORY, ARGS, seed)
    return CachedModel(module, Layout.of(module), TrainingSection(), build_method(TrainingSection()))


def _drop_constants(client: redis.Redis) -> None:
    client.unlink(*client.keys(KEYS.constants("*").replace("{", "[{]").replace("}", "[}]")))


@pytest.mark.parametrize("codec_name", ["fp32", "fp16", "int8"])
def test_a_frozen_base_travels_once(client: redis.Redis, codec_name: str) -> None:
    """A version has the adapters alone. A device with the campaign's seed has the base already; another fetches it,
    and both train from the same bits. What a server has lost is written again; at the end nothing is left."""
    model = build_model(FACTORY, ARGS, seed=5)
    layout = Layout.of(model)
    base = layout.flatten(model)
    assert layout.num_moving < layout.num_elements / 4
    publisher = Publisher(client, KEYS, layout, Timing(), codec_name=codec_name)
    strategy = Model(base)
    publisher.publish(strategy, AtOnce(client))  # type: ignore[arg-type]
    task = TrainTask(
        campaign="digits-1", task_id="1-abc", attempt=1, queue="default", timeout_seconds=60.0, model_factory=FACTORY,
        model_args=ARGS, model_seed=5, layout_digest=layout.digest, training={}, codec="fp32", sends="delta",
        constants_digest=constants_digest(base.values[layout.constants]),
    )  # fmt: skip
    AtOnce(client).add(order_commands(KEYS, task.order.to_bytes()))
    client.hset(KEYS.open_tasks, task.task_id, f"1|{client.time()[0] * 1000}|default")
    head = read_head(client, KEYS)
    assert head is not None
    assert head.num_bytes <= 4 * layout.num_moving

    broker = TaskBroker(client, "pi")
    same, other = _device(seed=5), _device(seed=6)
    assert same.has_constants(task.constants_digest)
    assert not other.has_constants(task.constants_digest)
    other.take_constants(broker.fetch_constants(task, other.constants_bytes))
    assert other.has_constants(task.constants_digest)
    for device in (same, other):
        for _ in range(2):  # the second time into the memory of the first
            claim = broker.claim(task, "")
            assert claim.head is not None
            assert claim.task == task
            device.keep(claim.head, broker.fetch(task, claim.head, device.give_up_base()))
        assert device.base is not None
        np.testing.assert_array_equal(device.base.values[layout.constants], base.values[layout.constants])
    np.testing.assert_array_equal(same.base.values, other.base.values)  # type: ignore[union-attr]

    with pytest.raises(MissingBlob):
        broker.fetch_constants(replace(task, constants_digest="0" * 32), other.constants_bytes)
    _drop_constants(client)
    with pytest.raises(MissingBlob):
        broker.fetch_constants(task, other.constants_bytes)
    publisher.look()
    assert publisher.published == -1
    publisher.publish(strategy, AtOnce(client))  # type: ignore[arg-type]
    broker.fetch_constants(task, other.constants_bytes)
    assert not publisher.is_led_astray(task.order.to_bytes())
    leftovers.drop_bulk(Places(client).at(""), KEYS)
    assert not client.keys("*constants:*")


def test_a_device_that_builds_other_constants_fetches_them(lab: Lab) -> None:
    """A frozen layer that no seed governs is another one in each process; all train and score with the campaign's."""
    (lab.folder / "drawn.py").write_text(
        "import os, torch\n"
        "def model():\n"
        "    frozen, head = torch.nn.Linear(64, 300, bias=False), torch.nn.Linear(300, 10)\n"
        "    drawn = torch.frombuffer(bytearray(os.urandom(64 * 300)), dtype=torch.uint8)\n"
        "    frozen.weight = torch.nn.Parameter(drawn.reshape(300, 64) / 512 - 0.25, requires_grad=False)\n"
        "    return torch.nn.Sequential(frozen, torch.nn.ReLU(), head)\n"
    )
    evaluation = {"data": "fl_core.data:digits", "data_args": {"split": "test"}}
    spec = lab.spec(model={"factory": "drawn:model", "args": None}, stop={"updates": 30}, evaluation=evaluation)
    coordinator = lab.run(spec)
    worker = lab.worker("one", "--allow", "drawn")
    worker.wait_for("fetched the campaign's constants")
    assert coordinator.wait() == 0
    summary = lab.summary()
    assert_identity(summary)
    assert summary["merged"] == 30
    assert summary["final_accuracy"] > 0.3
