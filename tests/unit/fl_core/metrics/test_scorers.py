"""Every named metric against scikit-learn or float64 numpy, over any split of the same data into batches."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

from fl_core.errors import SpecError, UserCodeError
from fl_core.metrics.evaluation import evaluate
from fl_core.metrics.names import METRICS
from fl_core.metrics.scorers import Scorers
from fl_core.spec import MetricSection, TrainingSection
from fl_core.training.losses import Loss

sklearn_metrics = pytest.importorskip("sklearn.metrics")

CPU = torch.device("cpu")
Array = npt.NDArray[Any]
MANY = settings(max_examples=12, deadline=None)


def reckon(
    names: Sequence[Any],
    output: Array,
    target: Array,
    loss: str = "cross_entropy",
    cuts: Sequence[int] = (),
    **more: Any,
) -> dict[str, float | None]:
    """The metrics of given outputs, in batches that end at ``cuts``."""
    scorers = Scorers(
        [MetricSection.model_validate(name) for name in names], Loss(TrainingSection(loss=loss, **more)), CPU
    )
    edges = sorted({0, len(output), *(cut % (len(output) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        scorers.update(torch.as_tensor(output[start:end]), torch.as_tensor(target[start:end]))
    return scorers.compute()


def softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def reference(name: str, logits: Array, target: Array) -> float | None:
    """What scikit-learn or float64 numpy says; over the classes that occur."""
    predicted, chances = logits.argmax(axis=1), softmax(logits)
    labels = np.unique(target)
    num_classes = logits.shape[1]
    match name:
        case "accuracy":
            return float(sklearn_metrics.accuracy_score(target, predicted))
        case "top_2_accuracy":
            return float(np.mean([t in row for t, row in zip(target, np.argsort(-logits)[:, :2], strict=True)]))
        case "balanced_accuracy":
            return float(sklearn_metrics.balanced_accuracy_score(target, predicted))
        case "mean_iou":
            return float(sklearn_metrics.jaccard_score(target, predicted, average="macro", zero_division=0))
        case "perplexity":
            return float(np.exp(-np.mean(np.log(chances[np.arange(len(target)), target]))))
        case "f1":
            average = "binary" if num_classes == 2 else "macro"
            return float(sklearn_metrics.f1_score(target, predicted, average=average, zero_division=0))
        case "auc":
            one_or_all = [1] if num_classes == 2 else list(labels)
            each = [c for c in one_or_all if 0 < np.sum(target == c) < len(target)]
            scores = [sklearn_metrics.roc_auc_score(target == c, chances[:, c]) for c in each]
            return float(np.mean(scores)) if scores else None
        case "average_precision":
            each = [c for c in ([1] if num_classes == 2 else list(labels)) if np.any(target == c)]
            scores = [sklearn_metrics.average_precision_score(target == c, chances[:, c]) for c in each]
            return float(np.mean(scores)) if scores else None
    raise AssertionError(name)


CLASS_METRICS = (*(n for n in METRICS if n not in ("mae", "rmse", "r2")), "top_2_accuracy")


@pytest.mark.parametrize("num_classes", [2, 3, 5])
@MANY
@given(seed=st.integers(0, 10_000), num=st.integers(1, 40), cuts=st.lists(st.integers(0, 40), max_size=8))
def test_metrics_of_classes_are_the_reference_over_any_split(
    num_classes: int, seed: int, num: int, cuts: list[int]
) -> None:
    """Balanced or not, with classes that do not occur, whatever the batches."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num, num_classes)) * rng.choice([0.1, 3.0])
    if seed % 3 == 0:
        logits = np.round(logits)  # ties, in the order of predictions
    target = rng.integers(0, rng.integers(1, num_classes + 1), num)
    names = [n for n in CLASS_METRICS if n != "top_2_accuracy" or (num_classes > 2 and seed % 3)]
    if seed % 3 == 0 and num_classes > 2:  # the last bit of float32's softmax breaks ties between rows
        names = [name for name in names if name not in ("auc", "average_precision")]
    found = reckon(names, logits.astype(np.float32), target, cuts=cuts)
    logits = logits.astype(np.float32).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            wanted = reference(name, logits, target)
            assert found[name] == (None if wanted is None else pytest.approx(wanted, abs=1e-6)), name


@MANY
@given(
    seed=st.integers(0, 10_000), num=st.integers(2, 40), columns=st.integers(0, 3), cuts=st.lists(st.integers(0, 40))
)
def test_metrics_of_numbers_are_the_reference_over_any_split(
    seed: int, num: int, columns: int, cuts: list[int]
) -> None:
    """Of one column, given as such or not, and of several."""
    rng = np.random.default_rng(seed)
    shape = (num, columns) if columns else (num,)
    output, target = rng.normal(size=shape) * 10, rng.normal(size=shape) * 10 + 100
    found = reckon(["mae", "rmse", "r2"], output, target, "mse", cuts)
    assert found["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(target, output))
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((output - target) ** 2)))
    assert found["r2"] == pytest.approx(sklearn_metrics.r2_score(target, output))


@MANY
@given(seed=st.integers(0, 10_000), num=st.integers(1, 30), cuts=st.lists(st.integers(0, 30)))
def test_binary_logits_are_the_reference_over_any_split(seed: int, num: int, cuts: list[int]) -> None:
    """One logit each, from far below to far above what a float32 sigmoid tells apart."""
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(size=num) * 15, rng.integers(0, 2, num)
    both = np.stack([np.zeros(num), logits], axis=1)
    names = ("accuracy", "balanced_accuracy", "f1", "auc", "average_precision", "mean_iou")
    found = reckon(names, logits, target, "bce_with_logits", cuts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            wanted = reference(name, both, target)
            assert found[name] == (None if wanted is None else pytest.approx(wanted, abs=1e-6)), name


@MANY
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, 12)), first=st.booleans())
def test_what_is_ignored_counts_nowhere(seed: int, cuts: list[int], first: bool) -> None:
    """Sequences with padding, in torch's order or with the classes last, as the labelled positions alone."""
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(size=(12, 5, 3)), rng.integers(0, 3, (12, 5))
    target[np.arange(5)[None] >= rng.integers(0, 6, 12)[:, None]] = -100
    kept = target >= 0
    output = logits.transpose(0, 2, 1).copy() if first else logits
    found = reckon(CLASS_METRICS, output, target, cuts=cuts)
    if not kept.any():
        assert set(found.values()) == {None}
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in CLASS_METRICS:
            wanted = reference(name, logits[kept], target[kept])
            assert found[name] == (None if wanted is None else pytest.approx(wanted, abs=1e-6)), name


@pytest.mark.parametrize(
    ("loss", "output", "target"),
    [
        ("mse", torch.zeros(4, 1), torch.tensor([0.0, 1, 5, 2])),
        ("mse", torch.zeros(4), torch.tensor([0, 1, 1, 0])),
        ("counts:poisson", torch.zeros(4, 1), torch.tensor([0, 1, 5, 2])),
        ("counts:poisson", torch.zeros(4), torch.tensor([3, 1, 5, 2])),
        ("counts:poisson", torch.zeros(4, 2), torch.tensor([3, 1, 5, 2])),
        ("counts:poisson", torch.zeros(4, 3), torch.rand(4, 3)),
    ],
)
def test_numbers_never_get_an_accuracy(
    loss: str, output: torch.Tensor, target: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not floats, and not counts, whatever the loss is called; who asks for one by name is refused."""
    module = ModuleType("counts")
    module.poisson = lambda output, target: output.sum() * 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "counts", module)
    training, dataset = TrainingSection(loss=loss), TensorDataset(output, target)
    assert evaluate(nn.Identity(), dataset, training, 3, CPU).accuracy is None
    if (target > 1).any():
        with pytest.raises(SpecError, match="accuracy is of classes"):
            evaluate(nn.Identity(), dataset, training, 3, CPU, metrics=[MetricSection(name="accuracy")])


def test_a_diverged_models_numbers_are_absent() -> None:
    """NaN is no score; a class that is masked out with minus infinity is a prediction like any other."""
    logits, target = np.random.default_rng(1).normal(size=(6, 3)), np.array([0, 1, 2, 0, 1, 2])
    assert set(reckon(CLASS_METRICS, np.full((6, 3), np.nan), target).values()) == {None}
    assert set(reckon(["mae", "rmse", "r2"], np.full(6, np.inf), target * 1.0, "mse").values()) == {None}
    masked = np.concatenate([logits, np.full((6, 1), -np.inf)], axis=1)
    assert reckon(["accuracy", "auc"], masked, target) == reckon(["accuracy", "auc"], logits, target)


def _once(target: Array) -> dict[str, float | None]:
    return reckon(["auc", "average_precision"], np.ones((len(target), 2)), target)


def test_what_cannot_be_had_is_absent() -> None:
    """No AUC of one class alone, no R² of targets that do not vary."""
    assert _once(np.array([0, 0])) == {"auc": None, "average_precision": None}
    assert _once(np.array([1, 1]))["auc"] is None
    constant = reckon(["r2", "mae"], np.array([1.0, 2.0]), np.array([3.0, 3.0]), "mse")
    assert constant == {"r2": None, "mae": 1.5}


class LargestError:
    """A user's own metric: the largest distance; lower is better."""

    higher_is_better = False

    def __init__(self, start: float = 0.0) -> None:
        self.largest = start

    def update(self, output: torch.Tensor, target: torch.Tensor) -> None:
        self.largest = max(self.largest, float((output - target).abs().max()))

    def compute(self) -> float:
        return self.largest


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of somebody's."""
    module = ModuleType("users_metrics")
    module.LargestError = LargestError  # type: ignore[attr-defined]
    module.Half = type("Half", (), {"update": lambda self, output, target: None})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_metrics", module)
    return module


def test_a_metric_of_ones_own_is_an_import_path(users: ModuleType) -> None:
    """With its arguments and its direction, beside the built-in ones; a class of torchmetrics is one."""
    own = {
        "name": "largest",
        "factory": "users_metrics:LargestError",
        "args": {"start": 0.5},
        "higher_is_better": False,
    }
    kept = {"factory": "torchmetrics:MeanAbsoluteError", "higher_is_better": False}
    output, target = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.25, 2.5])
    assert reckon([own, "mae", kept], output, target, "mse", cuts=[1]) == {
        "largest": 0.5, "mae": 0.25, "MeanAbsoluteError": 0.25,
    }  # fmt: skip


@pytest.mark.parametrize("call", ["update", "compute"])
def test_a_metric_of_ones_own_that_raises_is_one_sentence(users: ModuleType, call: str) -> None:
    """With its import path and what was called: the campaign ends, and goes on once it is mended."""

    def raises(self: Any, *given: Any) -> Any:
        raise OverflowError("too large")

    broken = {"update": lambda self, output, target: None, "compute": lambda self: 1.0, call: raises}
    users.Broken = type("Broken", (), broken)  # type: ignore[attr-defined]
    with pytest.raises(UserCodeError, match=rf"'users_metrics:Broken': {call}\(.*\) raised OverflowError: too large"):
        reckon(["users_metrics:Broken"], np.array([1.0, 2.0]), np.array([1.0, 2.0]), "mse", cuts=[1])


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("users_metrics:LargestError", "says higher_is_better = False of itself"),
        ("users_metrics:Half", r"which lacks compute\(\)"),
        ("users_metrics:Missing", "no callable 'Missing'"),
        ({"name": "f1", "args": {"colour": 3}}, r"f1 does not take args = \{'colour': 3\}"),
        ("top_5_accuracy", "top_5_accuracy is 1 whatever the model says, as it has 2 classes"),
    ],
)
def test_metrics_that_cannot_be_are_refused(users: ModuleType, section: Any, words: str) -> None:
    """In one sentence that names the metric."""
    with pytest.raises(SpecError, match=words):
        reckon([section], np.zeros((2, 2)), np.array([0, 1]))


def test_targets_that_do_not_fit_a_metric_are_refused() -> None:
    """Metrics of numbers of classes, and classes that the model does not know."""
    with pytest.raises(SpecError, match="mae is of numbers"):
        reckon(["mae"], np.zeros((2, 2)), np.array([0, 1]))
    with pytest.raises(SpecError, match=r"the held-out targets go from 0 to 7, and the model puts out 2 classes"):
        reckon(["auc"], np.zeros((2, 2)), np.array([0, 7]))


def test_without_torchmetrics_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy goes without."""
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setattr("importlib.util.find_spec", _without_torchmetrics)
    assert _accuracy() == 1.0
    with pytest.raises(SpecError, match=r"\['auc'\] needs torchmetrics.*fedtide\[evaluation\]"):
        reckon(["accuracy", "auc"], np.eye(2), np.array([0, 1]))


def _accuracy() -> float | None:
    return reckon(["accuracy"], np.eye(2), np.array([0, 1]))["accuracy"]


def _without_torchmetrics(name: str, *_: Any) -> Callable[..., Any] | None:
    return None if name == "torchmetrics" else print
