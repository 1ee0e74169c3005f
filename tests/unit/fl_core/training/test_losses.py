"""Losses by name and by import path."""

from __future__ import annotations

import itertools
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from fl_core.errors import DataError, SpecError
from fl_core.spec import TrainingSection
from fl_core.training.local import train_locally
from fl_core.training.losses import Loss, mean_of

RNG = np.random.default_rng(2)


def mean(loss: str, output: Any, target: Any, **settings: Any) -> float:
    """A loss's mean over one batch."""
    return float(Loss(TrainingSection(loss=loss, **settings))(torch.as_tensor(output), torch.as_tensor(target)).mean)


def _cross_entropy(logits: Any, classes: Any) -> float:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return float(-np.mean([row[c] for row, c in zip(log_probabilities, classes, strict=True)]))


def test_cross_entropy_is_the_formula() -> None:
    """Minus the mean log-probability of the right class."""
    logits, classes = RNG.normal(size=(5, 3)), RNG.integers(0, 3, 5)
    assert mean("cross_entropy", logits, classes) == pytest.approx(_cross_entropy(logits, classes))


def test_cross_entropy_of_sequences_has_the_classes_last() -> None:
    """(batch, length, classes) counts each position as an example, torch's (batch, classes, length) too."""
    logits, classes = RNG.normal(size=(4, 6, 3)), RNG.integers(0, 3, (4, 6))
    expected = _cross_entropy(logits.reshape(24, 3), classes.reshape(24))
    assert mean("cross_entropy", logits, classes) == pytest.approx(expected)
    assert mean("cross_entropy", logits.transpose(0, 2, 1).copy(), classes) == pytest.approx(expected)


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
    assert mean(name, output, target) == pytest.approx(float(formula(z, y)))


@pytest.mark.parametrize("name", ["mse", "l1", "bce_with_logits"])
def test_shapes_that_do_not_fit_are_refused(name: str) -> None:
    """torch's broadcasting would give a number here, and a wrong one."""
    with pytest.raises(DataError, match=r"\(4, 3\).*\(4,\)"):
        mean(name, torch.zeros(4, 3), torch.zeros(4))


def test_unknown_losses_name_the_nearest() -> None:
    """A typing error gets a suggestion, anything else the list."""
    with pytest.raises(SpecError, match="did you mean 'cross_entropy'"):
        Loss(TrainingSection(loss="crossentropy"))
    with pytest.raises(SpecError, match="cross_entropy, mse, bce_with_logits, l1"):
        Loss(TrainingSection(loss="zzz"))


def test_a_users_own_loss_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import path names any function of output and target; what is no scalar is refused."""
    module = ModuleType("users_losses")
    module.twice = lambda output, target: 2 * ((output - target) ** 2).mean()  # type: ignore[attr-defined]
    module.vector = lambda output, target: output - target  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_losses", module)
    z, y = torch.randn(3), torch.randn(3)
    assert mean("users_losses:twice", z, y) == pytest.approx(float(2 * ((z - y) ** 2).mean()))
    with pytest.raises(SpecError, match=r"a tensor of shape \(3, 1\)"):
        train_locally(
            torch.nn.Linear(2, 1),
            TensorDataset(torch.ones(3, 2), torch.ones(3, 1)),
            TrainingSection(loss="users_losses:vector"),
            seed=0,
            device=torch.device("cpu"),
        )
    with pytest.raises(SpecError, match=r"training\.loss"):
        Loss(TrainingSection(loss="users_losses:missing"))


# -- what is averaged over what ------------------------------------------------------------------------------------


def _over_batches(training: TrainingSection, output: Any, target: Any, cuts: list[int]) -> float | None:
    edges = sorted({0, len(output), *(cut % (len(output) + 1) for cut in cuts)})
    pairs = [(output[i:j], target[i:j]) for i, j in itertools.pairwise(edges)]
    return mean_of([tuple(Loss(training)(torch.as_tensor(o), torch.as_tensor(t))) for o, t in pairs])  # type: ignore[misc]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 9999),
    cuts=st.lists(st.integers(0, 12), max_size=6),
    weights=st.sampled_from([None, (1.0, 0.25, 3.0), (0.0, 1.0, 2.0)]),
    average=st.sampled_from([None, "example"]),
    class_dim=st.sampled_from([1, -1]),
)
def test_cross_entropy_of_any_split_is_that_of_all(
    seed: int, cuts: list[int], weights: Any, average: Any, class_dim: Any
) -> None:
    """Padding, empty sequences and class weights included: float64 numpy, target by target."""
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(size=(12, 3, 3)), rng.integers(0, 3, (12, 3))
    target[np.arange(3)[None] >= rng.integers(0, 4, 12)[:, None]] = -100
    each = -np.log(np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True))
    sums, shares = np.zeros(12), np.zeros(12)
    for i, k in zip(*np.nonzero(target >= 0), strict=True):
        weight = 1.0 if weights is None else weights[target[i, k]]
        sums[i] += weight * each[i, k, target[i, k]]
        shares[i] += weight
    if average == "example":
        wanted = np.mean((sums / np.where(shares, shares, 1))[shares > 0]) if shares.any() else None
    else:
        wanted = sums.sum() / shares.sum() if shares.any() else None
    output = logits if class_dim == -1 else logits.transpose(0, 2, 1).copy()
    training = TrainingSection(loss_average=average, class_dim=class_dim, class_weights=weights)
    found = _over_batches(training, output, target, cuts)
    assert found == (None if wanted is None else pytest.approx(wanted))


@pytest.mark.parametrize(("loss", "mark"), [("mse", -1), ("l1", -1), ("bce_with_logits", None)])
@pytest.mark.parametrize("average", [None, "example"])
def test_elementwise_losses_leave_out_what_is_marked(loss: str, mark: int | None, average: Any) -> None:
    """Over elements, or over the means of examples; without a mark every element counts, -100 too."""
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(9, 4)), rng.integers(0, 2, (9, 4)).astype(float)
    kept = rng.random((9, 4)) < 0.6
    kept[3] = False
    each = {
        "mse": (z - y) ** 2,
        "l1": np.abs(z - y),
        "bce_with_logits": np.log1p(np.exp(z)) - z * y,
    }[loss]
    by_example = [losses[counts].mean() for losses, counts in zip(each, kept, strict=True) if counts.any()]
    wanted = each[kept].mean() if average is None else np.mean(by_example)
    training = TrainingSection(loss=loss, loss_average=average, ignore_index=mark)
    marked = np.where(kept, y, -100 if mark is None else mark)
    assert _over_batches(training, z, marked, [3, 4, 5]) == pytest.approx(wanted)
    assert mean("mse", z, np.full((9, 4), -100.0)) == pytest.approx(np.mean((z + 100) ** 2))


def test_an_own_loss_says_what_it_is_the_mean_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """(sum, weight) adds up; a scalar is taken as the mean over the class numbers that count."""
    module = ModuleType("users_losses")
    module.summed = lambda output, target: ((output - target).abs().sum(), target.sum())  # type: ignore[attr-defined]
    module.tokens = lambda o, t: torch.nn.functional.cross_entropy(o.flatten(0, 1), t.flatten())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_losses", module)
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=7), rng.random(7)
    found = _over_batches(TrainingSection(loss="users_losses:summed"), z, y, [1, 3])
    assert found == pytest.approx(np.abs(z - y).sum() / y.sum())
    logits, target = rng.normal(size=(7, 4, 3)), rng.integers(0, 3, (7, 4))
    target[np.arange(4)[None] >= np.arange(7)[:, None]] = -100
    own = _over_batches(TrainingSection(loss="users_losses:tokens"), logits, target, [2, 3])
    assert own == pytest.approx(_over_batches(TrainingSection(), logits, target, [2, 3]))


# -- where the classes are -----------------------------------------------------------------------------------------


def test_equal_sizes_are_refused_until_the_spec_says_where_the_classes_are() -> None:
    """(N, L, C) and torch's (N, C, L) with L = C differ in the axis alone: no guess, in one sentence."""
    logits, target = RNG.normal(size=(6, 3, 3)), RNG.integers(0, 3, (6, 3))
    with pytest.raises(SpecError, match=r"\(6, 3, 3\) and a target of \(6, 3\) leave open .* training.class_dim = 1 "):
        mean("cross_entropy", logits, target)
    last = _cross_entropy(logits.reshape(18, 3), target.reshape(18))
    first = _cross_entropy(logits.transpose(0, 2, 1).reshape(18, 3), target.reshape(18))
    assert mean("cross_entropy", logits, target, class_dim=-1) == pytest.approx(last)
    assert mean("cross_entropy", logits, target, class_dim=1) == pytest.approx(first)


def test_pixels_have_their_classes_first() -> None:
    """(N, C, H, W) with masks of (N, H, W), or of (N, 1, H, W) as image libraries give them."""
    logits, target = RNG.normal(size=(2, 3, 4, 5)), RNG.integers(0, 3, (2, 4, 5))
    wanted = _cross_entropy(np.moveaxis(logits, 1, -1).reshape(40, 3), target.reshape(40))
    assert mean("cross_entropy", logits, target) == pytest.approx(wanted)
    assert mean("cross_entropy", logits, target[:, None].astype(np.uint8)) == pytest.approx(wanted)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_])
@pytest.mark.parametrize("column", [False, True])
def test_class_numbers_may_be_of_any_integer_type(dtype: Any, column: bool) -> None:
    """And a column of them."""
    logits, target = RNG.normal(size=(5, 2)), RNG.integers(0, 2, 5)
    given_ = target.astype(dtype)[:, None] if column else target.astype(dtype)
    assert mean("cross_entropy", logits, given_) == pytest.approx(_cross_entropy(logits, target))


@pytest.mark.parametrize(
    ("output", "target", "words"),
    [
        ((4, 2), torch.zeros(4), "return class numbers as integers, or probabilities"),
        ((4, 2, 5), torch.zeros(4, 3, dtype=torch.int64), r"output has shape \(4, 2, 5\) and the target \(4, 3\)"),
        ((4,), torch.zeros(4, dtype=torch.int64), "the dimension of the classes"),
        ((4, 3, 3), torch.rand(4, 3, 3), "leave open"),
    ],
)
def test_targets_that_are_no_classes_are_refused(output: Any, target: Any, words: str) -> None:
    """In one sentence with both shapes."""
    with pytest.raises(SpecError, match=words):
        mean("cross_entropy", torch.zeros(output), target)


def test_class_weights_are_one_for_each_class() -> None:
    """Others are refused by their number."""
    with pytest.raises(SpecError, match="class_weights has 3 numbers and the model puts out 2 classes"):
        mean("cross_entropy", torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), class_weights=(1.0, 1.0, 1.0))


# -- training ------------------------------------------------------------------------------------------------------


class _Given(torch.nn.Module):
    """Looks up one logit vector per word."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.table(x)
        return found


def _sentences(num_labelled: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(4)
    words, tags = (torch.randint(0, high, (12, 4), generator=generator) for high in (6, 3))
    tags[torch.arange(4)[None] >= (torch.arange(12) % 4 + 1)[:, None]] = -100
    tags[num_labelled:] = -100
    return TensorDataset(words, tags)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_batch_without_labels_takes_no_step(optimizer: Any) -> None:
    """It moves nothing, is no part of the loss, and is told; num_examples counts those that teach something."""
    torch.manual_seed(0)
    model = _Given()
    settings_ = TrainingSection(batch_size=1, optimizer=optimizer, weight_decay=0.1)
    done = train_locally(model, _sentences(5), settings_, seed=0, device=torch.device("cpu"))
    assert (done.num_steps, done.num_examples, done.metrics["unlabelled_batches"]) == (5, 5, 7.0)
    assert np.isfinite(done.loss)
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    with pytest.raises(DataError, match=r"None of the targets .* \(all are -100\), of a dataset of 12 examples"):
        train_locally(_Given(), _sentences(0), settings_, seed=0, device=torch.device("cpu"))


@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_a_devices_loss_is_that_of_its_targets(batch_size: int) -> None:
    """As held-out loss is: with a vanishing rate, the mean over all targets that count, whatever the batches."""
    torch.manual_seed(0)
    model, data = _Given(), _sentences(9)
    words, tags = data.tensors
    wanted = torch.nn.functional.cross_entropy(model(words).flatten(0, 1), tags.flatten())
    settings_ = TrainingSection(batch_size=batch_size, learning_rate=1e-12)
    done = train_locally(model, data, settings_, seed=0, device=torch.device("cpu"))
    assert done.loss == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert done.num_examples == 9


def test_distillation_looks_along_the_classes() -> None:
    """The teacher's softmax runs over the dimension that the loss takes as the classes."""
    from fl_core.training.methods.distill import Teacher

    weight = TrainingSection(distillation_weight=1.0, distillation_temperature=1.0)
    output, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    target = torch.zeros(2, 4, dtype=torch.int64)
    module = torch.nn.Identity()
    found = Teacher(module, weight).loss(teacher, output, target)
    p, q = teacher.softmax(1).double(), output.softmax(1).double()
    wanted = (p * (p.log() - q.log())).sum(1).mean()
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
