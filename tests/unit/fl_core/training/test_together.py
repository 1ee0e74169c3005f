"""Training together: what each device comes to is what it comes to by itself, whatever the others do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from fl_core.models.build import build_model
from fl_core.spec import TrainingSection
from fl_core.training.local import train_locally
from fl_core.training.method import build_method
from fl_core.training.together.examples import examples_of
from fl_core.training.together.plan import Assignment, work_of
from fl_core.training.together.train import Together, obstacle
from fl_core.vectors.layout import Layout

CPU = torch.device("cpu")


def _data(number: int, classes: int | None) -> TensorDataset:
    generator = torch.Generator().manual_seed(number)
    inputs = torch.randn(number, 6, generator=generator)
    if classes is None:
        return TensorDataset(inputs, torch.rand(number, 3, generator=generator))
    return TensorDataset(inputs, torch.randint(0, classes, (number,), generator=generator))


def _shards(classes: int | None, sizes: list[int], *, shared: bool) -> list[Dataset[Any]]:
    whole = _data(200, classes)
    if not shared:
        return [_data(size, classes) for size in sizes]
    return [Subset(whole, torch.randperm(200)[:size]) for size in sizes]  # type: ignore[arg-type]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"local_steps": 7, "batch_size": 4}, [8, 8, 8]),
        ({"local_epochs": 2, "batch_size": 4}, [9, 3, 17]),
        ({"local_steps": 5, "batch_size": 16, "momentum": 0.9, "weight_decay": 0.1}, [5, 40, 16]),
        ({"local_epochs": 1, "batch_size": 5, "proximal_weight": 0.3, "max_gradient_norm": 0.2}, [11, 6, 5]),
        ({"local_steps": 6, "batch_size": 4, "local_schedule": "cosine"}, [12, 7, 30]),
        ({"local_steps": 4, "batch_size": 3, "loss": "mse"}, [7, 8, 9]),
        ({"local_steps": 4, "batch_size": 3, "loss": "bce_with_logits"}, [7, 8, 9]),
    ],
)
def test_each_device_trains_as_by_itself(settings: dict[str, Any], sizes: list[int], shared: bool) -> None:
    """The same steps over the same batches, from different versions; to rounding, as sums have another order."""
    read = TrainingSection(learning_rate=0.1, **settings)
    model = build_model("fl_core.models:mlp", {"inputs": 6, "hidden": [5], "classes": 3}, seed=0)
    layout = Layout.of(model)
    datasets = _shards(3 if read.loss == "cross_entropy" else None, sizes, shared=shared)
    bases = [
        layout.flatten(build_model("fl_core.models:mlp", {"inputs": 6, "hidden": [5], "classes": 3}, i))
        for i in range(len(sizes))
    ]
    assignments = []
    for i, (dataset, base) in enumerate(zip(datasets, bases, strict=True)):
        examples = examples_of(dataset, read)
        assert examples is not None
        assignments.append(Assignment(examples, base, read, seed=i))
    assert obstacle(model, layout, read, build_method(read)) == ""
    outcomes = Together(model, layout, "delta").train(assignments)
    for i, outcome in enumerate(outcomes):
        layout.load_into(model, bases[i])
        alone = train_locally(model, datasets[i], read, seed=i, device=CPU)
        np.testing.assert_allclose(outcome.values, layout.flatten(model).values - bases[i].values, atol=2e-6)
        together = outcome.training
        assert (together.num_examples, together.num_steps, together.num_seen) == (
            alone.num_examples, alone.num_steps, alone.num_seen,
        )  # fmt: skip
        assert work_of(read, sizes[i]) == (alone.num_steps, alone.num_seen)
        assert together.metrics == pytest.approx(alone.metrics, abs=1e-5)


def test_the_same_batch_gives_the_same_bits_and_parameters_are_sent_where_they_are_merged() -> None:
    """However often it is trained."""
    read = TrainingSection(local_steps=3, batch_size=4)
    model = build_model("fl_core.models:mlp", {"inputs": 6, "hidden": [5], "classes": 3}, seed=0)
    layout = Layout.of(model)
    base = layout.flatten(model)
    examples = examples_of(_data(9, 3), read)
    assert examples is not None
    assignments = [Assignment(examples, base, read, seed) for seed in range(4)]
    deltas, again = (Together(model, layout, "delta").train(assignments) for _ in range(2))
    sent = Together(model, layout, "parameters").train(assignments)
    for delta, same, parameters in zip(deltas, again, sent, strict=True):
        assert delta.values.tobytes() == same.values.tobytes()
        np.testing.assert_allclose(parameters.values, base.values + delta.values, atol=1e-6)


class _Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)
        self.first.requires_grad_(False)


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        (nn.Linear(6, 3), {"method": "per_fedavg"}, "per_fedavg"),
        (nn.Linear(6, 3), {"optimizer": "adam"}, "'adam'"),
        (nn.Linear(6, 3), {"loss": "torch.nn.functional:cross_entropy"}, "own"),
        (nn.Linear(6, 3), {"loss_average": "example"}, "loss_average"),
        (nn.Linear(6, 3), {"class_weights": (1.0, 2.0, 3.0)}, "class_weights"),
        (nn.Linear(6, 3), {"ignore_index": 2}, "ignore_index"),
        (nn.Linear(6, 3), {"precision": "bfloat16"}, "bfloat16"),
        (nn.Linear(6, 3), {"distillation_weight": 0.5}, "distillation_weight"),
        (nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)), {}, "buffers"),
        (_Frozen(), {}, "frozen"),
        (nn.Linear(6, 3).to(torch.bfloat16), {}, "not float32"),
    ],
)
def test_what_cannot_train_together_says_why(model: nn.Module, settings: dict[str, Any], words: str) -> None:
    """Before anything is trained."""
    read = TrainingSection(**settings)
    assert words in obstacle(model, Layout.of(model), read, build_method(read))


def test_data_that_is_no_pair_of_tensors_trains_by_itself() -> None:
    """So do targets that do not all count, and those of another kind than the loss takes."""
    classes, numbers = TrainingSection(), TrainingSection(loss="mse")
    plain = _data(8, 3)
    ignored = TensorDataset(plain.tensors[0], plain.tensors[1].clone().index_fill_(0, torch.tensor([2]), -100))
    assert examples_of(plain, classes) is not None
    assert examples_of(Subset(ignored, [0, 1]), classes) is not None
    for dataset, settings in (
        (ignored, classes),
        (Subset(ignored, [0, 2]), classes),
        (Subset(Subset(plain, [0, 1, 2]), [1]), classes),
        (TensorDataset(plain.tensors[0]), classes),
        (Subset(plain, []), classes),
        (_data(8, None), classes),
        (plain, numbers),
    ):
        assert examples_of(dataset, settings) is None, dataset
