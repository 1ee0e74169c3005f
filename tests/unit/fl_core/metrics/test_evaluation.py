"""Scores against counts and means written out by hand."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from fl_core.errors import DataError, SpecError, UserCodeError
from fl_core.metrics.evaluation import Scores, evaluate
from fl_core.spec import TrainingSection

CPU = torch.device("cpu")
RNG = np.random.default_rng(8)


def score(output: Any, target: Any, loss: str, batch_size: int = 4) -> Scores:
    """Score a model whose outputs are given: an identity."""
    dataset = TensorDataset(torch.as_tensor(output), torch.as_tensor(target))
    return evaluate(nn.Identity(), dataset, TrainingSection(loss=loss), batch_size, CPU)


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_classification_is_counted_by_the_largest_logit(batch_size: int) -> None:
    """Accuracy and loss do not depend on how the examples are batched."""
    logits, classes = RNG.normal(size=(11, 3)), RNG.integers(0, 3, 11)
    scores = score(logits, classes, "cross_entropy", batch_size)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert scores.accuracy == pytest.approx(np.mean(logits.argmax(axis=1) == classes))
    assert scores.loss == pytest.approx(-np.mean(np.log(probabilities[np.arange(11), classes])), rel=1e-5)
    assert scores.num_examples == 11


def test_sequences_count_each_position() -> None:
    """(batch, length, classes) and torch's (batch, classes, length) give the same; ignored targets do not count."""
    logits, classes = RNG.normal(size=(5, 7, 3)), RNG.integers(0, 3, (5, 7))
    classes[2, 3:] = -100
    expected = np.mean((logits.argmax(axis=2) == classes)[classes >= 0])
    assert score(logits, classes, "cross_entropy").accuracy == pytest.approx(expected)
    assert score(logits.transpose(0, 2, 1), classes, "cross_entropy").accuracy == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(9,), (9, 1)])
@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_binary_logits_are_cut_at_zero(shape: tuple[int, ...], dtype: Any) -> None:
    """A logit above 0 says 1, for targets of either type and shape."""
    logits, classes = RNG.normal(size=9), RNG.integers(0, 2, 9)
    scores = score(logits.reshape(shape), classes.astype(dtype), "bce_with_logits")
    assert scores.accuracy == pytest.approx(np.mean((logits > 0) == (classes == 1)))


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_regression_has_no_accuracy(dtype: Any) -> None:
    """Values have a loss only, whole numbers included."""
    output, target = RNG.normal(size=(6, 1)), RNG.integers(0, 9, 6)
    scores = score(output, target.astype(dtype), "mse")
    assert scores.accuracy is None
    assert scores.loss == pytest.approx(np.mean((output[:, 0] - target) ** 2), rel=1e-5)


class Failing(nn.Module):
    """Fails in the middle of an evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no")


def test_modes_are_put_back_as_they_were() -> None:
    """Evaluation uses evaluation mode and changes nothing, also when the model fails."""
    norm, dropout = nn.BatchNorm1d(2), nn.Dropout(0.9)
    model = nn.Sequential(norm, dropout, nn.Linear(2, 3))
    model.train()
    norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    dataset = TensorDataset(torch.randn(8, 2), torch.zeros(8, dtype=torch.int64))
    first, second = (evaluate(model, dataset, TrainingSection(loss="cross_entropy"), 3, CPU) for _ in range(2))
    assert first == second, "dropout was off"
    assert (model.training, norm.training, dropout.training) == (True, False, True)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    failing = Failing().train()
    with pytest.raises(UserCodeError):
        evaluate(failing, dataset, TrainingSection(loss="cross_entropy"), 3, CPU)
    assert failing.training


def two_losses(output: Tensor, target: Tensor) -> Tensor:
    """A loss that forgets to take the mean."""
    return output[:2, 0]


class Unreadable(TensorDataset):
    """A dataset whose examples cannot be had."""

    def __getitem__(self, index: Any) -> Any:
        raise OSError("the disk is gone")


def test_whoever_raises_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key, the import path, the entry point, the error and the user's line: in one sentence."""
    module = ModuleType("users")
    module.two_losses = two_losses  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users", module)
    fine = TensorDataset(torch.randn(8, 2), torch.zeros(8, dtype=torch.int64))
    with pytest.raises(
        UserCodeError, match=r"model.factory = 'tests:net': the forward pass raised RuntimeError: no \("
    ):
        evaluate(Failing(), fine, TrainingSection(loss="cross_entropy"), 3, CPU, factory="tests:net")
    with pytest.raises(SpecError, match=r"training.loss = 'users:two_losses' returned a tensor of shape \(2,\); "):
        evaluate(nn.Identity(), fine, TrainingSection(loss="users:two_losses"), 3, CPU)
    with pytest.raises(
        UserCodeError, match=r"^evaluation.data = 'a:b': reading a batch raised OSError: the disk is gone"
    ):
        evaluate(
            nn.Identity(),
            Unreadable(torch.zeros(4)),
            TrainingSection(loss="mse"),
            3,
            CPU,
            data=("evaluation.data", "a:b"),
        )


def test_no_examples_are_a_data_error() -> None:
    """Nothing can be said of a model without data."""
    with pytest.raises(DataError, match="no examples"):
        score(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), "cross_entropy")


def test_scores_that_are_not_finite_are_passed_on() -> None:
    """A diverged model's loss is NaN, so that a divergence guard can see it."""
    assert np.isnan(score(torch.full((3, 2), float("nan")), torch.zeros(3, dtype=torch.int64), "cross_entropy").loss)
