"""What a worker makes of a task: the settings that its method sees, and how the outcome is encoded."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset, TensorDataset

from fl_core.codecs import codec
from fl_core.errors import DataError, TrainingStopped
from fl_core.spec import TrainingSection
from fl_core.training.local import LocalTraining
from fl_core.training.method import DeviceTask, Outcome
from fl_core.vectors import Parameters, read_all
from fl_core.vectors.layout import Layout
from tests.unit.workers.tasks import ARGS, LAYOUT, MODULE, TASK
from workers.child.train_task import Trainer
from workers.pulse import Pulse, Vitals
from workers.settings import WorkerSettings
from workers.store.memory import Draft
from workers.store.model_cache import CachedModel
from workers.store.profile import SpeedProfile


class Watcher:
    """A method that remembers its tasks, and says that 50 examples took 2 s."""

    sends = ("delta",)

    def __init__(self) -> None:
        self.tasks: list[DeviceTask] = []

    def train(self, task: DeviceTask) -> Outcome:
        self.tasks.append(task)
        training = LocalTraining(10, 1, 0.0, {}, seconds=2.0, num_seen=50)
        return Outcome(values=np.ones(LAYOUT.num_elements, np.float32), training=training)


def _trainer(tmp_path: Path, **settings: Any) -> Trainer:
    """One without a broker."""
    trainer = Trainer.__new__(Trainer)
    trainer._settings = WorkerSettings(broker="", data="a:b", name="pi", state_dir=tmp_path, **settings)
    trainer._device = torch.device("cpu")
    trainer._dataset = TensorDataset(torch.zeros(10, 4), torch.zeros(10, dtype=torch.int64))
    trainer._speed = SpeedProfile()
    return trainer


class _Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (None, "NoneType is not a dataset; return one with __len__ and __getitem__"),
        ((x for x in range(3)), "generator is not a dataset; return one with __len__ and __getitem__"),
        (_Stream(), "is an IterableDataset; return a map-style dataset"),
        ([], "list holds no examples; give this device data"),
    ],
)
def test_data_that_is_no_dataset_is_told_at_once(
    made: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker says which factory, and what to return, instead of what Python says of ``len``."""
    module = ModuleType("data_users")
    module.data = lambda: made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "data_users", module)
    others: Any = None
    settings = WorkerSettings(broker="", data="data_users:data", name="pi", state_dir=tmp_path)
    with pytest.raises(DataError, match=f"^data = 'data_users:data' with {{}}: .*{words}"):
        Trainer(settings, others, others, others)


def _model(method: Any, **training: Any) -> CachedModel:
    model = CachedModel(MODULE, LAYOUT, TrainingSection(**training), method)
    model.base = Parameters(np.zeros(LAYOUT.num_elements, np.float32))
    return model


def test_the_rate_is_that_of_the_base_version_and_of_the_plateaus(tmp_path: Path) -> None:
    """0.8 at version 25 with a halving every 10 versions, times what the coordinator says."""
    watcher = Watcher()
    model = _model(watcher, learning_rate=0.8, schedule="step", schedule_period=10)
    trainer = _trainer(tmp_path)
    for version, factor in ((0, 1.0), (25, 1.0), (25, 0.1)):
        trainer._train(replace(TASK, learning_rate_factor=factor), model, version)
    assert [task.settings.learning_rate for task in watcher.tasks] == pytest.approx([0.8, 0.2, 0.02])
    assert model.settings.learning_rate == 0.8, "the campaign's own settings stay"


def test_the_work_follows_the_measured_speed(tmp_path: Path) -> None:
    """A probe of min_steps, then what fits 4 s at 0.04 s per example; another campaign begins with a probe again."""
    watcher, trainer = Watcher(), _trainer(tmp_path)
    model = _model(watcher, pace_seconds=4.0, batch_size=10, min_steps=2)
    for campaign in ("digits-1", "digits-1", "digits-2"):
        trainer._train(replace(TASK, campaign=campaign), model, 1)
    assert [task.settings.local_steps for task in watcher.tasks] == [2, 10, 2]


def test_a_method_gets_what_is_this_device_s_own(tmp_path: Path) -> None:
    """Its memory of this campaign, its architecture, its name, and a seed of the task's own."""
    watcher = Watcher()
    trainer = _trainer(tmp_path, model="fl_core.models:mlp", model_args={**ARGS, "hidden": [7]})
    task = replace(TASK, codec="topk", codec_args={"fraction": 0.5, "importance": "fisher"})
    trainer._train(task, _model(watcher), 3)
    _trainer(tmp_path)._train(replace(TASK, task_id="2-abc"), _model(watcher), 3)
    first, second = watcher.tasks
    first.memory["own"] = np.ones(2, np.float32)
    assert cast(Draft, first.memory).keep(np.zeros(1, np.float32))
    assert second.memory["own"].tolist() == [1.0, 1.0]
    assert (tmp_path / "memory" / "digits-1" / "own.npy").exists()
    assert first.own_model is not None
    weights = [Layout.of(model).flatten(model).values for model in (first.own_model(), first.own_model())]
    assert weights[0].size != LAYOUT.num_elements
    np.testing.assert_array_equal(weights[0], weights[1])
    assert second.own_model is None
    assert (first.importance, second.importance) == ("fisher", "")
    assert (first.version, first.worker) == (3, "pi")
    assert first.seed != second.seed


@pytest.mark.parametrize(("attack", "sent"), [("sign_flip", -1.0), ("scale", 100.0)])
def test_a_hostile_device_sends_what_it_should_not(tmp_path: Path, attack: str, sent: float) -> None:
    """The emulated attack changes what is sent."""
    outcome = _trainer(tmp_path, emulate_attack=attack)._train(TASK, _model(Watcher()), 1)
    assert set(outcome.values.tolist()) == {sent}


def test_a_transfer_that_is_recalled_ends(tmp_path: Path) -> None:
    """The parent has heard that nobody waits for this task's bytes, and not for another's."""
    trainer = _trainer(tmp_path)
    trainer._pulse, trainer._vitals = Pulse(), Vitals(holding="digits-1/1-abc#1")
    trainer._pulse.recall("digits-1/1-abc#2")
    before = time.monotonic()
    trainer._note_moved()
    assert trainer._pulse.moved_at >= before
    trainer._pulse.recall("digits-1/1-abc#1")
    with pytest.raises(TrainingStopped):
        trainer._note_moved()


def test_each_part_has_a_residual_of_its_own(tmp_path: Path) -> None:
    """What top-k left out of one part is added to that part's next update, and to no other's."""
    trainer, model = _trainer(tmp_path), _model(Watcher())
    task = replace(TASK, codec="topk", codec_args={"fraction": 0.5, "importance": "magnitude"})
    chosen, training = codec("topk", task.codec_args), LocalTraining(10, 1, 0.0, {}, 1.0)
    sent = []
    for part in (1, 2, 1):
        outcome = Outcome(values=np.array([2.0, 1.5], np.float32), training=training, part=part)
        sent.append(read_all(chosen.decode(bytes(trainer._encode(task, model, outcome)), 2)).tolist())
    assert sent == [[2.0, 0.0], [2.0, 0.0], [0.0, 3.0]]
