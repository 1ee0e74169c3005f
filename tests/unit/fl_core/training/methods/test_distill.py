"""The distillation term against a float64 reference, and local training with what goes beside the plain loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from fl_core.errors import SpecError
from fl_core.spec import TrainingSection
from fl_core.training.local import train_locally
from fl_core.training.methods.distill import soft_cross_entropy

CPU = torch.device("cpu")
RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(12, 4)), RNG.integers(0, 3, 12)
W0 = RNG.normal(size=(3, 4))
Array = npt.NDArray[np.float64]


def _softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _linear(w: Array, dtype: torch.dtype = torch.float64) -> nn.Linear:
    model = nn.Linear(4, 3, bias=False, dtype=dtype)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(w))
    return model


def test_the_divergence_is_the_formula_s() -> None:
    """T² Σ p log(p / q) over the classes, the mean over examples, for sequences too."""
    student, teacher = RNG.normal(size=(2, 5, 7, 3)) * 4
    p, q = _softmax(teacher / 2.5), _softmax(student / 2.5)
    expected = 2.5**2 * (p * np.log(p / q)).sum(axis=-1).mean()
    log_p = torch.tensor(np.log(p))
    assert float(soft_cross_entropy(torch.tensor(student), log_p, 2.5)) == pytest.approx(expected, rel=1e-12)


def test_the_teacher_is_the_base_version() -> None:
    """Three full-batch steps of a linear classifier: cross-entropy plus λ T² KL(p_base || p), in numpy float64.

    The gradient of T² KL by the logits is T (q - p), over the number of examples.
    """
    weight, temperature, rate = 0.7, 3.0, 0.4
    w, p_base = W0.copy(), _softmax(X @ W0.T / temperature)
    for _ in range(3):
        logits = X @ w.T
        by_logits = _softmax(logits) - np.eye(3)[Y] + weight * temperature * (_softmax(logits / temperature) - p_base)
        w -= rate * by_logits.T @ X / len(X)
    model = _linear(W0)
    settings = TrainingSection(
        learning_rate=rate, batch_size=12, local_steps=3, distillation_weight=weight,
        distillation_temperature=temperature,
    )  # fmt: skip
    done = train_locally(model, TensorDataset(torch.tensor(X), torch.tensor(Y)), settings, seed=0, device=CPU)
    np.testing.assert_allclose(model.weight.detach().numpy(), w, rtol=1e-10, atol=1e-12)
    plain = -np.log(_softmax(X @ W0.T)[np.arange(12), Y]).mean()
    assert done.metrics["first_batch_loss"] == pytest.approx(plain, rel=1e-6), "the reported loss is the labels' own"


def test_an_output_without_classes_has_no_teacher() -> None:
    """A regression cannot be distilled like this, and is told so in one sentence."""
    data = TensorDataset(torch.zeros(4, 4), torch.zeros(4, 1))
    settings = TrainingSection(loss="mse", distillation_weight=0.5)
    with pytest.raises(SpecError, match=r"distillation_weight = 0.5 needs an output of \(batch, classes\)"):
        train_locally(nn.Linear(4, 1), data, settings, seed=0, device=CPU)


def test_the_local_schedule_is_that_of_steps_by_hand() -> None:
    """Cosine over 5 steps of full-batch gradient descent equals the loop with the rates written out."""
    w, rates = W0.copy(), 0.4 * 0.5 * (1 + np.cos(np.pi * np.arange(5) / 5))
    for rate in rates:
        w -= rate * (_softmax(X @ w.T) - np.eye(3)[Y]).T @ X / len(X)
    model = _linear(W0)
    settings = TrainingSection(learning_rate=0.4, batch_size=12, local_steps=5, local_schedule="cosine")
    done = train_locally(model, TensorDataset(torch.tensor(X), torch.tensor(Y)), settings, seed=0, device=CPU)
    np.testing.assert_allclose(model.weight.detach().numpy(), w, rtol=1e-10)
    assert (done.num_steps, done.num_seen, done.num_examples) == (5, 60, 12)


def test_what_was_seen_counts_short_batches() -> None:
    """Three steps of 12 examples in batches of 5, 5 and 2, then one more of 5."""
    settings = TrainingSection(batch_size=5, local_steps=4, learning_rate=0.01)
    data = TensorDataset(torch.tensor(X), torch.tensor(Y))
    assert train_locally(_linear(W0), data, settings, seed=0, device=CPU).num_seen == 17


def test_bfloat16_differs_a_little_and_only_in_the_forward_pass() -> None:
    """Parameters stay float32, the result is near that of float32, and is not the same."""
    data = TensorDataset(torch.tensor(X).float(), torch.tensor(Y))
    results = {}
    for precision in ("float32", "bfloat16"):
        model = _linear(W0, torch.float32)
        settings = TrainingSection(learning_rate=0.1, batch_size=4, local_steps=6, precision=precision)  # type: ignore[arg-type]
        train_locally(model, data, settings, seed=1, device=CPU)
        assert model.weight.dtype == torch.float32
        results[precision] = model.weight.detach().numpy()
    difference = np.abs(results["float32"] - results["bfloat16"]).max()
    assert 0 < difference < 0.02


@pytest.mark.parametrize("kind", ["gradient", "fisher"])
def test_importance_is_the_mean_over_the_steps(kind: str) -> None:
    """|g| or g² of each step, by hand in float64, at the parameters that the step started from."""
    w, seen = W0.copy(), []
    for _ in range(4):
        g = (_softmax(X @ w.T) - np.eye(3)[Y]).T @ X / len(X)
        seen.append(g**2 if kind == "fisher" else np.abs(g))
        w -= 0.5 * g
    settings = TrainingSection(learning_rate=0.5, batch_size=12, local_steps=4)
    data = TensorDataset(torch.tensor(X), torch.tensor(Y))
    model = _linear(W0)
    done = train_locally(model, data, settings, seed=0, device=CPU, importance=kind)  # type: ignore[arg-type]
    np.testing.assert_allclose(done.importance["weight"].numpy(), np.mean(seen, axis=0), rtol=1e-10)
