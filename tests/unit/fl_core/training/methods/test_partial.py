"""Training a part of the model: what changes, what is sent, which part is chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from fl_core.errors import SpecError, TrainingStopped
from fl_core.models import lora
from fl_core.spec import TrainingSection
from fl_core.training.method import build_method
from fl_core.vectors import FloatArray
from fl_core.vectors.layout import Layout
from fl_core.vectors.model_parts import Parts

GENERATOR = torch.Generator().manual_seed(0)
DATA = TensorDataset(torch.randn(24, 4, generator=GENERATOR), torch.arange(24) % 3)
GROUPS = [["0."], ["2.", "1."], ["3."]]


def _model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 5), nn.Linear(5, 3))


def _settings(**args: Any) -> TrainingSection:
    return TrainingSection(method="partial", method_args=args, learning_rate=0.1, batch_size=8)


def test_only_the_part_changes_and_travels(device_task: Callable[..., Any]) -> None:
    """Parameters outside the part keep their bits; what is sent is the part's difference, tensor after tensor."""
    model, settings = _model(), _settings(groups=GROUPS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    outcome = build_method(settings).train(device_task(model, DATA, settings))
    prefixes = tuple(GROUPS[outcome.part - 1])
    expected = []
    for spec in Layout.of(model).weights.tensors:
        difference = model.state_dict()[spec.name] - before[spec.name]
        if spec.name.startswith(prefixes):
            expected.append(difference.numpy().reshape(-1))
        else:
            assert not difference.any(), spec.name
    np.testing.assert_allclose(outcome.values, np.concatenate(expected), atol=1e-6)
    assert outcome.values.any()


def test_the_part_s_own_steps_are_those_of_a_frozen_rest(device_task: Callable[..., Any]) -> None:
    """It equals gradient descent on the part alone, by hand with torch's autograd."""
    model, settings = _model(), _settings(groups=[["3."]])
    outcome = build_method(settings).train(device_task(model, DATA, settings.model_copy(update={"batch_size": 24})))
    reference = _model().train()
    gradients = torch.autograd.grad(
        nn.functional.cross_entropy(reference(DATA.tensors[0]), DATA.tensors[1]), list(reference[3].parameters())
    )
    expected = np.concatenate([-0.1 * g.numpy().reshape(-1) for g in gradients])
    np.testing.assert_allclose(outcome.values, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_what_was_frozen_for_the_task_is_free_afterwards(device_task: Callable[..., Any], ends: str) -> None:
    """The model is used again for the next task, also after one that was cancelled; a frozen body stays frozen."""
    model = lora(rank=2, factory="fl_core.models:mlp", args={"inputs": 4, "hidden": [5], "classes": 3})
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    assert len(set(flags.values())) == 2
    settings = _settings(num_parts=2)
    task = device_task(model, DATA, settings, should_stop=lambda: ends == "badly")
    if ends == "badly":
        with pytest.raises(TrainingStopped):
            build_method(settings).train(task)
    else:
        build_method(settings).train(task)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == flags


def test_a_cycle_visits_every_part(device_task: Callable[..., Any]) -> None:
    """Each part once in three tasks, and again in the next three; devices do not all begin with the same one."""
    settings = _settings(groups=GROUPS)
    method, firsts = build_method(settings), set()
    for worker in ("a", "b", "c", "d", "e", "f"):
        memory: dict[str, FloatArray] = {}
        parts = [
            method.train(device_task(_model(), DATA, settings, memory=memory, worker=worker)).part for _ in "123456"
        ]
        assert sorted(parts[:3]) == [1, 2, 3]
        assert parts[:3] == parts[3:]
        firsts.add(parts[0])
    assert len(firsts) > 1


def test_importance_draws_by_the_squared_gradient(device_task: Callable[..., Any]) -> None:
    """Over many seeds each part is drawn about as often as its share of the squared gradient says."""
    settings = _settings(groups=GROUPS, choice="importance").model_copy(update={"batch_size": 24})
    model = _model().eval()
    loss = nn.functional.cross_entropy(model(DATA.tensors[0]), DATA.tensors[1])
    named = dict(model.named_parameters())
    squares = {
        n: float(g.square().sum()) for n, g in zip(named, torch.autograd.grad(loss, list(named.values())), strict=True)
    }
    shares = np.array([sum(s for n, s in squares.items() if n.startswith(tuple(group))) for group in GROUPS])
    shares /= shares.sum()
    method, drawn = build_method(settings), Counter[int]()
    for seed in range(150):
        drawn[method.train(device_task(_model(), DATA, settings, seed=seed)).part] += 1
    found = np.array([drawn[part] for part in (1, 2, 3)]) / 150
    assert np.abs(found - shares).max() < 4 * np.sqrt(0.25 / 150)
    assert shares.max() > 0.4, "the test would see nothing"
    assert int(found.argmax()) == int(shares.argmax())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, "give either groups or num_parts"),
        ({"groups": [["0."]], "num_parts": 2}, "give either groups or num_parts"),
        ({"groups": [[""]]}, "a group without a name would match everything or nothing"),
        ({"groups": [[]]}, "a group without a name"),
        ({"num_parts": 1}, "method_args: num_parts = 1 is not accepted"),
        ({"num_parts": 2, "choice": "random"}, "choice = 'random' is not accepted"),
    ],
)
def test_bad_settings_are_told_at_launch(args: dict[str, Any], said: str) -> None:
    """Before any device sees them, with the key."""
    with pytest.raises(SpecError, match=r"training.method_args") as caught:
        build_method(_settings(**args))
    assert said in str(caught.value)


def test_parts_of_the_model_and_of_the_message_agree(device_task: Callable[..., Any]) -> None:
    """What is sent has exactly the part's size, for every part of an even division."""
    settings = _settings(num_parts=4)
    parts, memory, method = Parts.even(Layout.of(_model()).weights, 4), dict[str, FloatArray](), build_method(settings)
    for _ in range(4):
        outcome = method.train(device_task(_model(), DATA, settings, memory=memory))
        assert outcome.values.shape == (parts.num_elements(outcome.part),)
