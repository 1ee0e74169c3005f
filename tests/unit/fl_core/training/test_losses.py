"""Losses by name and by import path."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from fl_core.errors import DataError, SpecError
from fl_core.spec import TrainingSection
from fl_core.training.local import train_locally
from fl_core.training.losses import resolve_loss

RNG = np.random.default_rng(2)


def _cross_entropy(logits: Any, classes: Any) -> float:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return float(-np.mean([row[c] for row, c in zip(log_probabilities, classes, strict=True)]))


def test_cross_entropy_is_the_formula() -> None:
    """Minus the mean log-probability of the right class."""
    logits, classes = RNG.normal(size=(5, 3)), RNG.integers(0, 3, 5)
    value = resolve_loss("cross_entropy")(torch.tensor(logits), torch.tensor(classes))
    assert float(value) == pytest.approx(_cross_entropy(logits, classes))


def test_cross_entropy_of_sequences_has_the_classes_last() -> None:
    """(batch, length, classes) counts each position as an example, torch's (batch, classes, length) too."""
    logits, classes = RNG.normal(size=(4, 6, 3)), RNG.integers(0, 3, (4, 6))
    expected = _cross_entropy(logits.reshape(24, 3), classes.reshape(24))
    loss = resolve_loss("cross_entropy")
    assert float(loss(torch.tensor(logits), torch.tensor(classes))) == pytest.approx(expected)
    torch_order = torch.tensor(logits.transpose(0, 2, 1).copy())
    assert float(loss(torch_order, torch.tensor(classes))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("mse", lambda z, y: np.mean((z - y) ** 2)),
        ("l1", lambda z, y: np.mean(np.abs(z - y))),
        ("bce_with_logits", lambda z, y: np.mean(np.log1p(np.exp(z)) - z * y)),
    ],
)
@pytest.mark.parametrize("column", ["output", "target", "neither"])
def test_elementwise_losses_are_the_formula(name: str, formula: Any, column: str) -> None:
    """An output of (n, 1) is compared with a target of (n,) one to one, not all with all."""
    z, y = RNG.normal(size=8), RNG.integers(0, 2, 8)
    output = torch.tensor(z).reshape(8, 1) if column == "output" else torch.tensor(z)
    target = torch.tensor(y).reshape(8, 1) if column == "target" else torch.tensor(y)
    assert float(resolve_loss(name)(output, target)) == pytest.approx(float(formula(z, y)))


@pytest.mark.parametrize("name", ["mse", "l1", "bce_with_logits"])
def test_shapes_that_do_not_fit_are_refused(name: str) -> None:
    """torch's broadcasting would give a number here, and a wrong one."""
    with pytest.raises(DataError, match=r"\(4, 3\).*\(4,\)"):
        resolve_loss(name)(torch.zeros(4, 3), torch.zeros(4))


def test_unknown_losses_name_the_nearest() -> None:
    """A typing error gets a suggestion, anything else the list."""
    with pytest.raises(SpecError, match="did you mean 'cross_entropy'"):
        resolve_loss("crossentropy")
    with pytest.raises(SpecError, match="cross_entropy, mse, bce_with_logits, l1"):
        resolve_loss("zzz")


def test_a_users_own_loss_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import path names any function of output and target; what is no scalar is refused."""
    module = ModuleType("users_losses")
    module.twice = lambda output, target: 2 * ((output - target) ** 2).mean()  # type: ignore[attr-defined]
    module.vector = lambda output, target: output - target  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_losses", module)
    z, y = torch.randn(3), torch.randn(3)
    assert float(resolve_loss("users_losses:twice")(z, y)) == pytest.approx(float(2 * ((z - y) ** 2).mean()))
    with pytest.raises(SpecError, match=r"a tensor of shape \(3, 1\)"):
        train_locally(
            torch.nn.Linear(2, 1),
            TensorDataset(torch.ones(3, 2), torch.ones(3, 1)),
            TrainingSection(loss="users_losses:vector"),
            seed=0,
            device=torch.device("cpu"),
        )
    with pytest.raises(SpecError, match=r"training\.loss"):
        resolve_loss("users_losses:missing")
