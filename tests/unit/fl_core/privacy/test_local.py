"""Noise on the device: of what leaves it, and of what is said beside it."""

from __future__ import annotations

import dataclasses
import tomllib

import numpy as np
import pytest
import torch

from fl_core.errors import InvariantError, SpecError
from fl_core.models.build import build_model
from fl_core.privacy.grid import RESOLUTION
from fl_core.privacy.local import privatised
from fl_core.privacy.noise import rounded_gaussian
from fl_core.privacy.terms import Terms
from fl_core.spec import CampaignSpec, parse_spec
from fl_core.training.one_task import Device, DeviceModel, Done, do_task
from fl_core.training.order import train_order
from fl_core.vectors.layout import Layout
from fl_core.wire.messages import TaskCall, TrainTask

TERMS = Terms("local", 0.5, 2.0, 1e-6, 4)
KEY = b"k" * 32
SPEC = """
[model]
factory = "fl_core.models:mlp"
args = { inputs = 4, hidden = [3], classes = 2 }
[training]
local_steps = 2
[privacy]
mode = "local"
noise_multiplier = 2.0
clip = 0.5
"""


def test_clipped_and_noised_on_the_grid() -> None:
    """The clipped update and the noise of its key, as integers of the grid; the update stays as it is."""
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    before = values.copy()
    sent = privatised(values, TERMS, KEY)
    np.testing.assert_array_equal(values, before)
    steps = np.rint(sent.astype(np.float64) * RESOLUTION / 0.5)
    np.testing.assert_allclose(sent, (steps * 0.5 / RESOLUTION).astype(np.float32))
    update = steps - rounded_gaussian(KEY, 5000, 2.0 * RESOLUTION)
    assert np.linalg.norm(update) <= RESOLUTION * (1 + 1e-4)
    assert np.corrcoef(update, values)[0, 1] > 0.999
    assert sent.std() == pytest.approx(2.0 * 0.5, rel=0.05)


def test_what_is_not_finite_is_noise_alone() -> None:
    """A refusal would tell of the data."""
    sent = privatised(np.array([np.nan, 1.0], np.float32), TERMS, KEY)
    np.testing.assert_array_equal(sent, privatised(np.zeros(2, np.float32), TERMS, KEY))


def task_and_model(text: str = SPEC) -> tuple[TrainTask, DeviceModel, CampaignSpec]:
    spec = parse_spec(tomllib.loads(text))
    layout = Layout.of(build_model(spec.model.factory, spec.model.args, 0))
    order = train_order("a", spec, layout, "delta")
    task = TrainTask.of(TaskCall(campaign="a", task_id="1-a", attempt=1, queue="default"), order)
    return task, DeviceModel.build(order, torch.device("cpu")), spec


def device(**more: object) -> Device:
    data = torch.utils.data.TensorDataset(torch.randn(8, 4), torch.zeros(8, dtype=torch.long))
    return Device(name="w", dataset=data, device=torch.device("cpu"), **more)  # type: ignore[arg-type]


def done(task: TrainTask, model: DeviceModel, **more: object) -> Done:
    return do_task(task, model, model.layout.flatten(model.module), 0, device(**more))


def test_a_task_is_counted_before_anything_leaves() -> None:
    """Once per update, after training; and beside it nothing is said of the data."""
    task, model, _ = task_and_model()
    counted: list[Terms] = []

    def spend(_: TrainTask, terms: Terms) -> bytes:
        counted.append(terms)
        return bytes([len(counted)]) * 32

    first, second = done(task, model, spend=spend), done(task, model, spend=spend)
    assert [terms.noise_multiplier for terms in counted] == [2.0, 2.0]
    assert bytes(first.payload) != bytes(second.payload)
    header = first.update(blob="", num_chunks=0, bytes_down=0, seconds={})
    assert (header.metrics, header.num_examples) == ({}, 1)


def test_metrics_only_where_the_spec_says_so() -> None:
    """``privacy.metrics``: outside of the promise."""
    task, model, _ = task_and_model(SPEC + "metrics = true\n")
    header = done(task, model, spend=lambda *_: KEY).update(blob="", num_chunks=0, bytes_down=0, seconds={})
    assert header.num_examples == 8 and header.metrics
    central = task_and_model(SPEC.replace('"local"', '"central"'))
    header = done(*central[:2]).update(blob="", num_chunks=0, bytes_down=0, seconds={})
    assert (header.metrics, header.num_examples) == ({}, 1)


def test_what_noise_does_not_cover_is_not_sent() -> None:
    """Whatever the order says: parameters, soft labels, and running statistics, which are sent beside the update."""
    task, model, _ = task_and_model()
    with pytest.raises(SpecError, match="parameters"):
        done(dataclasses.replace(task, sends="parameters"), model, spend=lambda *_: KEY)
    normed = task_and_model(SPEC.replace("classes = 2", "classes = 2, batch_norm = true"))
    with pytest.raises(SpecError, match="running statistics"):
        done(*normed[:2], spend=lambda *_: KEY)
    with pytest.raises(InvariantError, match="does not count"):
        done(task, model)
