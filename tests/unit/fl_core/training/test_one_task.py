"""A task from a base version to what is sent: what its method sees, what is encoded, and what the header says."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from fl_core.codecs import ErrorFeedback, codec
from fl_core.errors import LayoutError
from fl_core.spec import TrainingSection
from fl_core.training.local import LocalTraining
from fl_core.training.method import DeviceTask, Outcome, build_method
from fl_core.training.one_task import Device, DeviceModel, Done, do_task, encode
from fl_core.vectors import FloatArray, Parameters, Sends, read_all
from fl_core.vectors.layout import Layout
from tests.unit.workers.tasks import LAYOUT, MODULE, TASK

BASE = Parameters(np.zeros(LAYOUT.num_elements, np.float32))


class Watcher:
    """A method that remembers its tasks, and says that 50 examples took 2 s."""

    sends: tuple[Sends, ...] = ("delta",)

    def __init__(self) -> None:
        self.tasks: list[DeviceTask] = []

    def train(self, task: DeviceTask) -> Outcome:
        self.tasks.append(task)
        training = LocalTraining(10, 1, 0.0, {"loss": float("nan"), "steps": 2.0}, seconds=2.0, num_seen=50)
        return Outcome(values=np.ones(LAYOUT.num_elements, np.float32), training=training, metrics={"own": 1.5})


def _model(method: Any, **training: Any) -> DeviceModel:
    return DeviceModel(MODULE, LAYOUT, TrainingSection(**training), method)


def _device(**fields: Any) -> Device:
    generator = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(10, 4, generator=generator), torch.arange(10) % 2)
    return Device(**{"name": "pi", "dataset": data, "device": torch.device("cpu"), **fields})


def test_the_rate_is_that_of_the_base_version_and_of_the_plateaus() -> None:
    """0.8 at version 25 with a halving every 10 versions, times what the coordinator says."""
    watcher = Watcher()
    model = _model(watcher, learning_rate=0.8, schedule="step", schedule_period=10)
    for version, factor in ((0, 1.0), (25, 1.0), (25, 0.1)):
        do_task(replace(TASK, learning_rate_factor=factor), model, BASE, version, _device())
    assert [task.settings.learning_rate for task in watcher.tasks] == pytest.approx([0.8, 0.2, 0.02])
    assert model.settings.learning_rate == 0.8, "the campaign's own settings stay"


@pytest.mark.parametrize(("seconds_of", "steps"), [(None, [2, 10, 2]), (lambda training: 1.0, [2, 20, 2])])
def test_the_work_follows_the_speed(seconds_of: Any, steps: list[int]) -> None:
    """A probe of min_steps, then what fits 4 s at 0.04 s per example, or by the device's own clock at 0.02; another
    campaign begins with a probe again."""
    watcher, device = Watcher(), _device(seconds_of=seconds_of)
    model = _model(watcher, pace_seconds=4.0, batch_size=10, min_steps=2)
    for campaign in ("digits-1", "digits-1", "digits-2"):
        do_task(replace(TASK, campaign=campaign), model, BASE, 1, device)
    assert [task.settings.local_steps for task in watcher.tasks] == steps


def test_what_lasts_from_task_to_task_is_the_device_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a method has written counts when its task came to something finite, and is there at the next one."""

    class Keeper(Watcher):
        def train(self, task: DeviceTask) -> Outcome:
            done = super().train(task)
            count = task.memory["count"] if "count" in task.memory else np.zeros(1, np.float32)
            task.memory["count"] = count + 1
            return replace(done, values=done.values * np.float32("nan")) if task.version == 1 else done

    device, model = _device(), _model(Keeper())
    for version in (0, 1, 2):
        do_task(TASK, model, BASE, version, device)
    assert device.memory["count"].tolist() == [2.0]


def test_a_hostile_device_sends_what_it_should_not() -> None:
    """The alteration has the honest values, what they are and the base's weights; its result is what is encoded."""
    seen: list[tuple[FloatArray, Sends, FloatArray]] = []

    def alter(values: FloatArray, sends: Sends, base: FloatArray) -> FloatArray:
        seen.append((values, sends, base))
        return -values

    done = do_task(TASK, _model(Watcher()), BASE, 1, _device(alter=alter))
    assert set(read_all(codec("fp32").decode(bytes(done.payload), LAYOUT.num_elements)).tolist()) == {-1.0}
    ((values, sends, base),) = seen
    assert (set(values.tolist()), sends, base.size) == ({1.0}, "delta", LAYOUT.num_parameters)


def test_the_header_says_what_was_done() -> None:
    """Numbers that are not finite stay at home."""
    done = do_task(TASK, _model(Watcher()), BASE, 7, _device())
    update = done.update(blob="", num_chunks=0, bytes_down=5, seconds={"train": 2.0})
    assert (update.worker, update.base_version, update.num_examples, update.bytes_down) == ("pi", 7, 10, 5)
    assert (update.payload_bytes, update.layout_digest) == (4 * LAYOUT.num_elements, LAYOUT.digest)
    assert update.metrics == {"steps": 2.0, "own": 1.5}


def _trained(name: str = "pi", task_id: str = "1-abc") -> Done:
    task = replace(TASK, task_id=task_id, training={"local_steps": 3, "batch_size": 4})
    return do_task(task, DeviceModel.build(task, torch.device("cpu")), BASE, 0, _device(name=name))


def test_the_same_task_is_the_same_bits_and_another_one_is_not() -> None:
    """Task and worker decide what is drawn; the process, its time and what it did before do not."""
    torch.manual_seed(5)
    first = bytes(_trained().payload)
    torch.manual_seed(6)
    assert bytes(_trained().payload) == first
    assert bytes(_trained(name="laptop").payload) != first
    assert bytes(_trained(task_id="2-abc").payload) != first


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("sends", ["delta", "parameters"])
def test_rounding_by_half_precision_is_no_change(dtype: torch.dtype, sends: str) -> None:
    """A device that changes nothing sends nothing, or the base as it is, whatever its weights can hold."""

    class InDtype(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 2).to(dtype)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.to(dtype)).float()  # type: ignore[no-any-return]

    module, settings = InDtype(), TrainingSection(learning_rate=1e-30, local_steps=1)
    layout = Layout.of(module)
    base = Parameters(np.random.default_rng(0).normal(size=layout.num_elements).astype(np.float32))
    model = DeviceModel(module, layout, settings, build_method(settings))
    values = do_task(replace(TASK, sends=sends), model, base, 3, _device()).outcome.values
    expected = base.values if sends == "parameters" else np.zeros_like(base.values)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=0)


def test_each_part_has_a_residual_of_its_own() -> None:
    """What top-k left out of one part is added to that part's next update, and to no other's."""
    task = replace(TASK, codec="topk", codec_args={"fraction": 0.5, "importance": "magnitude"})
    chosen, training = codec("topk", task.codec_args), LocalTraining(10, 1, 0.0, {}, 1.0)
    feedback: defaultdict[int, ErrorFeedback] = defaultdict(ErrorFeedback)
    sent = []
    for part in (1, 2, 1):
        outcome = Outcome(values=np.array([2.0, 1.5], np.float32), training=training, part=part)
        sent.append(read_all(chosen.decode(bytes(encode(task, LAYOUT, outcome, "pi", feedback)), 2)).tolist())
    assert sent == [[2.0, 0.0], [2.0, 0.0], [0.0, 3.0]]


def test_another_model_than_the_campaign_s_is_refused() -> None:
    """It is told when it is built, before anything is trained."""
    with pytest.raises(LayoutError, match="is not the campaign's"):
        DeviceModel.build(replace(TASK, layout_digest="0" * 32), torch.device("cpu"))
