"""The device's side of distillation: its own architecture, what it learns from the student, and what it sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from torch.utils.data import TensorDataset

from fl_core.errors import DataError
from fl_core.models import mlp
from fl_core.spec import TrainingSection
from fl_core.training.method import build_method
from fl_core.training.methods import soft_labels
from fl_core.training.methods.soft_labels import as_distributions
from fl_core.vectors import FloatArray, Parameters
from fl_core.vectors.layout import Layout

GENERATOR = torch.Generator().manual_seed(0)
PUBLIC = TensorDataset(torch.randn(30, 4, generator=GENERATOR), torch.zeros(30, dtype=torch.int64))
PRIVATE = TensorDataset(torch.randn(20, 4, generator=GENERATOR), torch.arange(20) % 3)


def _settings(**args: Any) -> TrainingSection:
    method_args = {"public_data": "a.b:public", "num_classes": 3, **args}
    return TrainingSection(method="distillation", method_args=method_args, learning_rate=0.1, batch_size=10)


@pytest.fixture(autouse=True)
def _public_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_labels.factories, "call", lambda *_: PUBLIC)


def _student() -> nn.Module:
    torch.manual_seed(0)
    return mlp(inputs=4, hidden=[6], classes=3)


def _own() -> nn.Module:
    torch.manual_seed(9)
    return mlp(inputs=4, hidden=[7, 5], classes=3, batch_norm=True)


def test_what_is_sent_are_the_probabilities_of_the_own_model(device_task: Callable[..., Any]) -> None:
    """One row per public example that sums to 1: softmax(z / T) of the device's own architecture, in float64."""
    memory: dict[str, FloatArray] = {}
    settings = _settings(temperature=3.0)
    outcome = build_method(settings).train(
        device_task(_student(), PRIVATE, settings, memory=memory, own_model=_own, sends="soft_labels")
    )
    assert outcome.values.shape == (90,)
    rows = outcome.values.reshape(30, 3)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6)
    (kept,) = memory.values()
    model = _own()
    layout = Layout.of(model)
    layout.load_into(model, Parameters(kept))
    logits = model.eval()(PUBLIC.tensors[0]).detach().double().numpy() / 3.0
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-6)
    assert outcome.training.num_examples == 20


def test_the_own_model_goes_on_where_it_stood(device_task: Callable[..., Any]) -> None:
    """A second task starts from the first one's model; without the memory it would start anew."""
    settings = _settings(local_steps_public=0)
    method = build_method(settings)
    memory: dict[str, FloatArray] = {}
    losses = []
    for seed in range(8):
        task = device_task(_student(), PRIVATE, settings, memory=memory, own_model=_own, seed=seed)
        losses.append(method.train(task).training.metrics["first_batch_loss"])
    assert losses[-1] < 0.8 * losses[0]
    assert len(memory) == 1


def test_without_an_own_architecture_it_is_the_student_s(device_task: Callable[..., Any]) -> None:
    """The first task trains a copy of the base version, so it sends what plain local training would say."""
    settings = _settings()
    student = _student()
    outcome = build_method(settings).train(device_task(student, PRIVATE, settings, version=0))
    reference = _student()
    local = settings.model_copy(update={"method": "local", "method_args": {}})
    build_method(local).train(device_task(reference, PRIVATE, local, version=0))
    expected = torch.softmax(reference.eval()(PUBLIC.tensors[0]) / 2.0, dim=1).detach().numpy()
    np.testing.assert_allclose(outcome.values.reshape(30, 3), expected, rtol=1e-5, atol=1e-6)


def test_it_learns_from_the_student_except_at_version_0(device_task: Callable[..., Any]) -> None:
    """With a student that is sure, many public steps bring the own model near it; version 0 has nothing to teach."""
    with torch.no_grad():
        sure = _student()
        sure[-1].weight.zero_()  # type: ignore[index]
        sure[-1].bias.copy_(torch.tensor([6.0, 0.0, 0.0]))  # type: ignore[index]
    settings = _settings(local_steps_public=60).model_copy(update={"local_steps": 1, "learning_rate": 0.05})
    first = {}
    for version in (0, 5):
        task = device_task(sure, PRIVATE, settings, version=version, own_model=_own)
        first[version] = build_method(settings).train(task).values.reshape(30, 3)[:, 0].mean()
    assert first[5] > first[0] + 0.2


def test_a_model_with_other_classes_is_told(device_task: Callable[..., Any]) -> None:
    """The device's architecture must put out what all others do."""
    settings = _settings()
    task = device_task(_student(), PRIVATE, settings, own_model=lambda: mlp(inputs=4, hidden=[4], classes=5))
    with pytest.raises(DataError, match=r"puts out \[5\] per example and training.method_args.num_classes is 3"):
        build_method(settings).train(task)


def test_the_same_task_gives_the_same_bits(device_task: Callable[..., Any]) -> None:
    """Dropout while learning from the student is drawn from the task's seed."""
    settings, results = _settings(), []
    start = mlp(inputs=4, hidden=[6], classes=3, dropout=0.5)
    for noise in range(2):
        model = mlp(inputs=4, hidden=[6], classes=3, dropout=0.5)
        model.load_state_dict(start.state_dict())
        torch.manual_seed(noise)
        results.append(build_method(settings).train(device_task(model, PRIVATE, settings)).values)
    np.testing.assert_array_equal(results[0], results[1])


@given(arrays(np.float32, (7, 4), elements=st.floats(-(2.0**49), 2.0**49, width=32)))
def test_whatever_arrives_becomes_distributions(values: Any) -> None:
    """Negative and huge numbers give rows in [0, 1] that sum to 1."""
    rows = as_distributions(values.reshape(-1), 4)
    assert rows.shape == (7, 4)
    assert (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-5)


@given(arrays(np.float64, (5, 3), elements=st.floats(-20, 20)))
def test_distributions_stay_what_they_are(logits: Any) -> None:
    """An honest device's word is taken as it is."""
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(as_distributions(p.astype(np.float32).reshape(-1), 3), p, rtol=1e-5, atol=1e-7)
