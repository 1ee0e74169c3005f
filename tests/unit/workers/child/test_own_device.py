"""What a worker brings to a task: its data, its memory, an architecture of its own, and what it emulates."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from torch.utils.data import IterableDataset

from fl_core.errors import DataError
from fl_core.spec import TrainingSection
from fl_core.training.methods.local_sgd import LocalSGD
from fl_core.training.one_task import Device
from fl_core.vectors.layout import Layout
from tests.unit.workers.tasks import ARGS, LAYOUT, MODULE, TASK
from workers.child.own_device import OwnDevice
from workers.settings import WorkerSettings
from workers.store.model_cache import CachedModel


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
    settings = WorkerSettings(broker="", data="data_users:data", name="pi", state_dir=tmp_path)
    with pytest.raises(DataError, match=f"^data = 'data_users:data' with {{}}: .*{words}"):
        OwnDevice(settings)


def _device(tmp_path: Path, **settings: Any) -> Device:
    settings = {"data": "fl_core.data:digits", "name": "pi", "state_dir": tmp_path, **settings}
    own = OwnDevice(WorkerSettings(broker="", **settings))
    training = TrainingSection()
    return own.for_task(TASK, CachedModel(MODULE, LAYOUT, training, LocalSGD()), lambda: False)


def test_a_task_finds_what_is_this_device_s_own(tmp_path: Path) -> None:
    """Its memory of this campaign on disk, and its architecture, which is built alike each time."""
    first = _device(tmp_path, model="fl_core.models:mlp", model_args={**ARGS, "hidden": [7]})
    first.memory["own"] = np.ones(2, np.float32)
    second = _device(tmp_path)
    assert second.memory["own"].tolist() == [1.0, 1.0]
    assert (tmp_path / "memory" / "digits-1" / "own.npy").exists()
    assert first.own_model is not None
    weights = [Layout.of(model).flatten(model).values for model in (first.own_model(), first.own_model())]
    assert weights[0].size != LAYOUT.num_elements
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (second.own_model, second.alter) == (None, None)


def test_its_speed_is_measured_from_task_to_task(tmp_path: Path) -> None:
    """One profile for all campaigns, which it tells apart."""
    own = OwnDevice(WorkerSettings(broker="", data="fl_core.data:digits", name="pi", state_dir=tmp_path))
    model = CachedModel(MODULE, LAYOUT, TrainingSection(), LocalSGD())
    assert own.for_task(TASK, model, lambda: False).speed is own.for_task(TASK, model, lambda: False).speed


@pytest.mark.parametrize(("attack", "sent"), [("sign_flip", -1.0), ("scale", 100.0), ("", 1.0)])
def test_a_device_that_plays_another_one(tmp_path: Path, attack: str, sent: float) -> None:
    """A hostile one changes what is sent; one that is merely slow does not."""
    alter = _device(tmp_path, emulate_attack=attack, emulate_delay_seconds=0.001).alter
    assert alter is not None
    assert set(alter(np.ones(3, np.float32), "delta", np.zeros(3, np.float32)).tolist()) == {sent}
