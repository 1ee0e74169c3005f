"""Local training: the mathematics, the order of the data, and how it ends."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from fl_core.errors import DataError, TrainingStopped
from fl_core.spec import TrainingSection
from fl_core.training.batches import split_order
from fl_core.training.local import LocalTraining, train_locally

CPU = torch.device("cpu")
Array = npt.NDArray[np.float64]


class Recorder(nn.Module):
    """A linear model that remembers which examples it saw: their first column is their number."""

    def __init__(self, inputs: int = 2, outputs: int = 1, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, dtype=dtype)
        self.seen: list[list[int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x[:, 0].int().tolist())
        return self.linear(x)  # type: ignore[no-any-return]


class Pairs(Dataset[Any]):
    """A map-style dataset that is no TensorDataset, so it goes through torch's DataLoader."""

    def __init__(self, *pairs: Any) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        return self.pairs[index]


def numbered(num_examples: int) -> TensorDataset:
    """Examples (i, 1) with the target i / 10."""
    x = torch.stack([torch.arange(num_examples).float(), torch.ones(num_examples)], dim=1)
    return TensorDataset(x, x[:, :1] / 10)


def iter_examples(dataset: TensorDataset) -> Iterator[Any]:
    """The examples one by one."""
    return (dataset[i] for i in range(len(dataset)))


def train(model: nn.Module, dataset: Dataset[Any], seed: int = 0, **options: Any) -> LocalTraining:
    """Train with the mean squared error unless told otherwise."""
    section = TrainingSection(**{"loss": "mse", "learning_rate": 0.001, **options})
    return train_locally(model, dataset, section, seed=seed, device=CPU)


def regression_model(w: Array, b: Array) -> nn.Linear:
    """A float64 linear model with the given parameters."""
    model = nn.Linear(w.shape[1], w.shape[0], dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(w))
        model.bias.copy_(torch.tensor(b))
    return model


RNG = np.random.default_rng(11)
X: Array = RNG.normal(size=(6, 3))
Y: Array = RNG.normal(size=(6, 2))
W: Array = RNG.normal(size=(2, 3))
B: Array = RNG.normal(size=2)


def gradient(w: Array, b: Array) -> tuple[Array, Array, float]:
    """Gradient and value of the mean over all elements of (X wᵀ + b - Y)²."""
    error = X @ w.T + b - Y
    return 2 * error.T @ X / error.size, 2 * error.sum(axis=0) / error.size, float((error**2).mean())


def test_one_sgd_step_is_the_formula() -> None:
    """One full-batch step moves a linear model by minus the rate times the gradient."""
    model = regression_model(W, B)
    result = train(model, TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=6, learning_rate=0.3)
    w_gradient, b_gradient, loss = gradient(W, B)
    np.testing.assert_allclose(model.weight.detach(), W - 0.3 * w_gradient, rtol=1e-12)
    np.testing.assert_allclose(model.bias.detach(), B - 0.3 * b_gradient, rtol=1e-12)
    assert result.loss == pytest.approx(loss, rel=1e-12)
    assert result.metrics == {name: pytest.approx(loss, rel=1e-12) for name in ("loss", "first_batch_loss")}
    assert (result.num_examples, result.num_steps) == (6, 1)
    assert result.seconds > 0


@given(mu=st.floats(0, 5), num_steps=st.integers(1, 6), bound=st.none() | st.floats(0.01, 2))
@settings(max_examples=40, deadline=None)
def test_proximal_term_and_clip_are_the_formula(mu: float, num_steps: int, bound: float | None) -> None:
    """Each step follows grad f + mu (w - w_base), scaled down to the norm's bound if it is longer."""
    model = regression_model(W, B)
    dataset = TensorDataset(torch.tensor(X), torch.tensor(Y))
    options: dict[str, Any] = {"proximal_weight": mu, "local_steps": num_steps, "max_gradient_norm": bound}
    result = train(model, dataset, batch_size=6, learning_rate=0.1, **options)
    w, b, losses = W, B, []
    for _ in range(num_steps):
        w_gradient, b_gradient, loss = gradient(w, b)
        losses.append(loss)
        w_gradient, b_gradient = w_gradient + mu * (w - W), b_gradient + mu * (b - B)
        norm = math.sqrt((w_gradient**2).sum() + (b_gradient**2).sum())
        scale = 1.0 if bound is None else min(1.0, bound / norm)
        w, b = w - 0.1 * scale * w_gradient, b - 0.1 * scale * b_gradient
    # torch divides by norm + 1e-6 when it clips
    np.testing.assert_allclose(model.weight.detach(), w, rtol=1e-9 if bound is None else 1e-3, atol=1e-5)
    np.testing.assert_allclose(model.bias.detach(), b, rtol=1e-9 if bound is None else 1e-3, atol=1e-5)
    assert result.loss == pytest.approx(losses[-1], rel=1e-3), "the reported loss is without the proximal term"


def test_frozen_parameters_stay() -> None:
    """Only trainable parameters move, with a proximal term too."""
    model = regression_model(W, B)
    model.weight.requires_grad_(False)
    train(model, TensorDataset(torch.tensor(X), torch.tensor(Y)), proximal_weight=0.5, local_steps=3)
    np.testing.assert_array_equal(model.weight.detach(), W)
    assert not np.array_equal(model.bias.detach(), B)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_each_epoch_shows_each_example_once(num_examples: int, batch_size: int, num_epochs: int) -> None:
    """All batches but the last are full, and an epoch is a permutation of the data."""
    model = Recorder()
    result = train(model, numbered(num_examples), batch_size=batch_size, local_epochs=num_epochs)
    per_epoch = math.ceil(num_examples / batch_size)
    assert result.num_steps == len(model.seen) == per_epoch * num_epochs
    for epoch in range(num_epochs):
        batches = model.seen[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert all(len(batch) == batch_size for batch in batches[:-1])
        assert sorted(i for batch in batches for i in batch) == list(range(num_examples))


def test_epochs_differ_in_order() -> None:
    """The order is drawn anew for each epoch."""
    model = Recorder()
    train(model, numbered(50), batch_size=50, local_epochs=2)
    assert model.seen[0] != model.seen[1]


def test_local_steps_wrap_over_epochs() -> None:
    """Five steps over two batches an epoch are two and a half epochs."""
    model = Recorder()
    assert train(model, numbered(8), batch_size=4, local_steps=5).num_steps == 5
    for first, second in (model.seen[:2], model.seen[2:4]):
        assert sorted(first + second) == list(range(8))
    assert len(model.seen) == 5


@pytest.mark.parametrize(("num_epochs", "num_steps", "last"), [(2, None, 3), (None, 5, 3), (None, 2, 2)])
def test_loss_is_the_mean_over_the_last_epoch(num_epochs: int | None, num_steps: int | None, last: int) -> None:
    """Each example of the last epoch's worth of steps counts once, in a smaller batch too."""
    losses: list[tuple[float, int]] = []

    class Model(Recorder):
        def forward(self, x: Tensor) -> Tensor:
            output = super().forward(x)
            losses.append((float(((output - x[:, :1] / 10) ** 2).mean().detach()), len(x)))
            return output

    result = train(Model(), numbered(10), batch_size=4, local_epochs=num_epochs, local_steps=num_steps)
    tail = losses[-last:]
    assert result.loss == pytest.approx(sum(value * n for value, n in tail) / sum(n for _, n in tail), rel=1e-6)
    assert result.metrics["first_batch_loss"] == pytest.approx(losses[0][0], rel=1e-6)


def _trained(seed: int, dataset: Dataset[Any]) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1))
    train(model, dataset, seed=seed, batch_size=4, local_epochs=2)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_seed_decides_everything() -> None:
    """The same seed gives the same bits, order and dropout included; another seed gives others."""
    dataset = numbered(20)
    torch.manual_seed(1)
    first = _trained(3, dataset)
    torch.manual_seed(2)
    assert torch.equal(first, _trained(3, dataset)), "the program's own generator has no say"
    assert not torch.equal(_trained(3, dataset), _trained(4, dataset))


def test_both_ways_of_batching_give_the_same_bits() -> None:
    """A TensorDataset and the same examples behind a DataLoader train alike."""
    dataset = numbered(22)
    assert torch.equal(_trained(3, dataset), _trained(3, Pairs(*iter_examples(dataset))))


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: Pairs(*iter_examples(d))])
def test_training_leaves_the_global_generator_alone(wrap: Any) -> None:
    """A program's own random numbers do not depend on what trained before."""
    torch.manual_seed(9)
    expected = torch.rand(4)
    torch.manual_seed(9)
    _trained(1, wrap(numbered(6)))
    assert torch.equal(torch.rand(4), expected)


def test_should_stop_ends_training_between_steps() -> None:
    """It is asked before each step; when it says yes, no further step is taken."""
    answers: Iterator[bool] = iter([False, False, True])
    model = Recorder()
    with pytest.raises(TrainingStopped):
        train_locally(
            model,
            numbered(40),
            TrainingSection(loss="mse", batch_size=4),
            seed=0,
            should_stop=lambda: next(answers),
            device=CPU,
        )
    assert len(model.seen) == 2
    assert not any(True for _ in answers), "it was not asked again"


class Normalised(Recorder):
    """With batch normalisation before the linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x[:, 0].int().tolist())
        return self.linear(self.norm(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("num_examples", "sizes"), [(9, [4, 5]), (10, [4, 4, 2]), (5, [5]), (8, [4, 4])])
def test_batch_norm_never_meets_a_single_example(num_examples: int, sizes: list[int]) -> None:
    """A last batch of one joins the batch before it; no example is left out."""
    model = Normalised()
    train(model, numbered(num_examples), batch_size=4)
    assert [len(batch) for batch in model.seen] == sizes
    assert sorted(i for batch in model.seen for i in batch) == list(range(num_examples))


def test_batch_norm_with_nothing_but_single_examples_is_refused() -> None:
    """Batches of one, and data of one, are said to be the reason: one value has no statistics."""
    for dataset, batch_size in ((numbered(8), 1), (numbered(1), 4)):
        with pytest.raises(DataError, match=r"one value per channel.*batch_size of 2 or more.*at least 2 examples"):
            train(Normalised(), dataset, batch_size=batch_size)


class Volumes(nn.Module):
    """Batch normalisation over volumes, whose statistics its author may freeze."""

    def __init__(self, frozen: bool) -> None:
        super().__init__()
        self.norm, self.layer, self.frozen = nn.BatchNorm3d(1), nn.Conv3d(1, 2, 1), frozen
        self.sizes: list[int] = []

    def train(self, mode: bool = True) -> Volumes:
        super().train(mode)
        self.norm.train(mode and not self.frozen)
        return self

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return self.layer(self.norm(x)).mean((2, 3, 4))  # type: ignore[no-any-return]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("num_examples", "batch_size"), [(3, 1), (1, 2), (5, 2)])
def test_batch_norm_over_volumes_trains_as_in_plain_torch(num_examples: int, batch_size: int, frozen: bool) -> None:
    """One volume has many values per channel, and frozen statistics need none: same batches, same parameters."""
    x = torch.randn(num_examples, 1, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    dataset, model, plain = TensorDataset(x, torch.arange(num_examples) % 2), Volumes(frozen), Volumes(frozen).train()
    plain.load_state_dict(model.state_dict())
    train(model, dataset, loss="cross_entropy", batch_size=batch_size, learning_rate=0.1, seed=5)
    optimizer = torch.optim.SGD(plain.parameters(), 0.1)
    order = torch.randperm(num_examples, generator=torch.Generator().manual_seed(5))
    for batch in split_order(order, batch_size, join_single=not frozen):
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(x[batch]), dataset.tensors[1][batch]).backward()
        optimizer.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], msg=name)
    assert sum(model.sizes) == num_examples


class Ratings(nn.Module):
    """Matrix factorisation as recommenders have it: only the rows that a batch names have a gradient."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.user, self.item = (nn.Embedding(6, 3, sparse=how == "layer") for _ in range(2))
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, pair: Tensor) -> Tensor:
        if self.how != "function":
            return (self.user(pair[:, 0]) * self.item(pair[:, 1])).sum(-1) + self.offset  # type: ignore[no-any-return]
        user = nn.functional.embedding(pair[:, 0], self.user.weight, sparse=True)
        item = nn.functional.embedding(pair[:, 1], self.item.weight, sparse=True)
        return (user * item).sum(-1) + self.offset


@pytest.mark.parametrize("how", ["layer", "function"])
@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"proximal_weight": 0.5}, {"max_gradient_norm": 0.01}, {"weight_decay": 0.1},
     {"optimizer": "adamw", "learning_rate": 0.01}, {"importance": "fisher"}],
)  # fmt: skip
def test_sparse_gradients_train_as_dense_ones(how: str, options: dict[str, Any]) -> None:
    """Whatever is added to them, clipped or remembered."""
    pairs = torch.randint(0, 6, (40, 2), generator=torch.Generator().manual_seed(2))
    dataset, models, results = TensorDataset(pairs, pairs.sum(1) / 5), [Ratings(""), Ratings(how)], []
    models[1].load_state_dict(models[0].state_dict())
    importance = options.pop("importance", "")
    for model in models:
        section = TrainingSection(**{"loss": "mse", "learning_rate": 0.2, "batch_size": 8, **options})
        results.append(train_locally(model, dataset, section, seed=3, device=CPU, importance=importance))
    for name, tensor in models[0].state_dict().items():
        torch.testing.assert_close(models[1].state_dict()[name], tensor, msg=name)
    for name, tensor in results[0].importance.items():
        torch.testing.assert_close(results[1].importance[name], tensor, msg=name)


def test_a_loss_that_is_not_finite_is_reported_not_hidden() -> None:
    """Diverged training ends normally; the loss says so."""
    result = train(Recorder(), numbered(40), learning_rate=1e20, local_epochs=5, batch_size=4)
    assert not math.isfinite(result.loss)
    assert math.isfinite(result.metrics["first_batch_loss"])


def test_training_mode_is_set() -> None:
    """A model that comes in evaluation mode is trained in training mode."""
    model = Recorder().eval()
    train(model, numbered(4))
    assert model.training


class Two(nn.Module):
    """A model of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 1), nn.Linear(3, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.a(left) + self.b(right)  # type: ignore[no-any-return]


@pytest.mark.parametrize("as_dict", [False, True])
def test_inputs_may_be_tuples_or_dictionaries(as_dict: bool) -> None:
    """A tuple becomes arguments, a dictionary keywords; NumPy's float64 is fine."""
    left, right = np.ones(2), np.ones(3)
    inputs = {"right": right, "left": left} if as_dict else (left, right)
    result = train(Two(), Pairs(*[(inputs, np.zeros(1)) for _ in range(5)]), batch_size=2)
    assert result.num_steps == 3


class Stream(IterableDataset[Any]):
    """A dataset without a size."""

    def __iter__(self) -> Iterator[Any]:
        return iter([])


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        (TensorDataset(torch.zeros(0, 2), torch.zeros(0, 1)), "holds no examples"),
        (Stream(), "IterableDataset"),
        ("text and no dataset", "pairs|target"),
        (object(), "is not a dataset"),
        (TensorDataset(torch.zeros(3, 2)), "1 parts"),
        (Pairs(1.0, 2.0), "single tensors, float64 of shape"),
        (Pairs((torch.zeros(2), "label")), "target is"),
        (Pairs((torch.zeros(5), 1), (torch.zeros(4), 1)), r"not make a batch \(stack expects.*; return .* same shape"),
        (Pairs((np.zeros(5), 1), (np.zeros(4), 1)), r"not make a batch \(stack expects.*; return .* same shape"),
        (Pairs(([1, 2], 1), ([1], 1)), "not make a batch .*each element in list.*; return .* same shape"),
        (Pairs((None, 1), (None, 1)), "not make a batch .*NoneType.*; return tensors, arrays or numbers"),
        (Pairs({"x": 1, "labels": 1}, {"labels": 1}), "not make a batch .*'x'.*; return tensors, arrays or numbers"),
    ],
)
def test_data_that_cannot_be_trained_on_is_a_data_error(dataset: Any, sentence: str) -> None:
    """Empty, endless and oddly shaped datasets are refused in a sentence."""
    with pytest.raises(DataError, match=sentence):
        train(Recorder(), dataset)


def test_training_does_not_load_the_compiler() -> None:
    """torch._dynamo takes about a second and 70 MB on a device that never compiles anything."""
    code = (
        "import sys, torch\n"
        "from fl_core.spec import TrainingSection\n"
        "from fl_core.training.local import train_locally\n"
        "from torch.utils.data import TensorDataset\n"
        "data = TensorDataset(torch.ones(4, 2), torch.ones(4, 1))\n"
        "for rule in ({}, {'momentum': 0.9}, {'optimizer': 'adam'}):\n"
        "    settings = TrainingSection(loss='mse', max_gradient_norm=1.0, proximal_weight=0.1, **rule)\n"
        "    train_locally(torch.nn.Linear(2, 1), data, settings, seed=0, device=torch.device('cpu'))\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
