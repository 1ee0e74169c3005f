"""What ``evaluation.metrics`` names becomes an object that takes batches in and says a number at the end.

A built-in metric is reckoned from the targets that count, whatever the batches' sizes: by sums, or where the order of
all predictions matters (AUC, average precision) from all of them, which are kept until then. Those beyond shares of
right predictions are torchmetrics' (the extra ``evaluation``). F1, AUC and average precision are class 1's where there
are two classes, and otherwise the mean over the classes that occur; so is mean IoU, whatever their number.

A metric of a user's own is an import path to something that makes an object with ``update(output, target)``, which gets
each batch as the loss gets it, and ``compute()``, which gives a number; any class of torchmetrics is one. An attribute
``higher_is_better`` must agree with the spec.

A number that cannot be had (nothing labelled, a diverged model's NaN, an AUC of one class alone) is absent: None.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from fl_core.errors import SpecError
from fl_core.factory import call
from fl_core.metrics.counted import Counted, counted, probabilities
from fl_core.metrics.names import KEY, top_k, verify_installed
from fl_core.spec import MetricSection
from fl_core.training.losses import Loss
from fl_core.user_code import running, verify_members


class Metric(Protocol):
    """A metric of a user's own; torchmetrics' classes have these members."""

    def update(self, output: Tensor, target: Tensor) -> object:
        """Take one batch in, as the loss gets it; targets that the loss ignores are among them."""
        ...

    def compute(self) -> Any:
        """The number of all batches so far: a float, or a tensor of one."""
        ...


class _Scorer(Protocol):
    """A built-in metric."""

    def update(self, pairs: Counted) -> object: ...

    def compute(self) -> float | None: ...


class Scorers:
    """The metrics of one evaluation.

    Args:
        sections: what the spec names; None for what a loss has by default: accuracy where it is over classes, and with
            an own loss where the targets look like classes.
        loss: what training minimises; it says what the targets are.
        device: where the batches are.

    Raises:
        SpecError: a metric cannot be made, or torchmetrics is not installed.
    """

    def __init__(self, sections: Sequence[MetricSection] | None, loss: Loss, device: torch.device) -> None:
        self._loss = loss
        # What nobody asked for by name is left out where it makes no sense, instead of refused.
        self._optional = sections is None
        if sections is None:
            sections = () if loss.name in ("mse", "l1") else (MetricSection(name="accuracy"),)
        verify_installed(each.name for each in sections if each.factory is None)
        self._built_in = {each.name: _built_in(each) for each in sections if each.factory is None}
        self._own = {each.name: (each.factory, _own(each, device)) for each in sections if each.factory is not None}
        self._order = [each.name for each in sections]
        self._absent: set[str] = set()
        self._any = False

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take one batch in.

        Raises:
            DataError, SpecError: output and target do not fit each other, or a metric.
            UserCodeError: a metric of a user's own raised.
        """
        if self._built_in and not (self._optional and self._absent):
            self._update_built_in(output, target)
        finite = not self._own or not bool(output.isnan().any())
        for name, (path, metric) in self._own.items():
            if not finite:
                self._absent.add(name)
            elif name not in self._absent:
                with running(KEY, path, "update(output, target)"):
                    metric.update(output, target)

    def _update_built_in(self, output: Tensor, target: Tensor) -> None:
        try:
            pairs = counted(self._loss, output, target)
            if not pairs.is_finite:
                self._absent |= self._built_in.keys()
            elif len(pairs.target):
                self._any = True
                for name, scorer in self._built_in.items():
                    if name not in self._absent:
                        scorer.update(pairs)
        except SpecError:
            if not (self._optional and self._loss.is_own):
                raise
            self._absent |= self._built_in.keys()

    def compute(self) -> dict[str, float | None]:
        """Each metric's number by name, in the spec's order.

        Raises:
            SpecError: a metric of a user's own gives no number.
            UserCodeError: it raised.
        """
        found: dict[str, float | None] = {}
        for name in self._order:
            if name in self._absent:
                found[name] = None
            elif name in self._built_in:
                found[name] = _finite(self._built_in[name].compute()) if self._any else None
            else:
                path, metric = self._own[name]
                with running(KEY, path, "compute()"):
                    value = metric.compute()
                found[name] = _finite(_number(value, path))
        return found


def _number(value: Any, path: str) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise SpecError(f"{KEY} = {path!r}: compute() gave {value!r:.80}; return one number.") from None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _own(section: MetricSection, device: torch.device) -> Metric:
    path = cast(str, section.factory)
    made = call(path, section.args, KEY)
    verify_members(KEY, path, made, Metric, "update(output, target)", "compute()")
    said = getattr(made, "higher_is_better", None)
    if said is not None and bool(said) != section.is_higher_better:
        raise SpecError(
            f"{KEY}: {path!r} says higher_is_better = {bool(said)} of itself; write {{ factory = {path!r}, "
            f"higher_is_better = {str(bool(said)).lower()} }}."
        )
    if isinstance(made, torch.nn.Module):
        made.to(device)
    return cast(Metric, made)


def _built_in(section: MetricSection) -> _Scorer:
    name, args = section.name, dict(section.args)
    if (k := top_k(name)) is not None or name == "accuracy":
        return _Share(k or 1, name)
    if name == "balanced_accuracy":
        return _BalancedAccuracy()
    with warnings.catch_warnings():
        # Of packages that torchmetrics looks for and that nothing here needs.
        warnings.simplefilter("ignore")
        import torchmetrics
    made: dict[str, Callable[[], _Scorer]] = {
        "auc": lambda: _Ranking(name, args),
        "average_precision": lambda: _Ranking(name, args),
        "f1": lambda: _Confusion(name, args),
        "mean_iou": lambda: _Confusion(name, args),
        "perplexity": lambda: _Perplexity(args),
        "mae": lambda: _Numbers(name, lambda: torchmetrics.MeanAbsoluteError(**args)),
        "rmse": lambda: _Numbers(name, lambda: torchmetrics.MeanSquaredError(squared=False, **args)),
        "r2": lambda: _Numbers(name, lambda: torchmetrics.R2Score(**args)),
    }
    return made[name]()


def _make(name: str, args: dict[str, Any], make: Callable[..., Any], **more: Any) -> Any:
    """One of torchmetrics' metrics, which reckons in float64.

    Raises:
        SpecError: it refuses ``args``.
    """
    try:
        metric = make(**more, **args)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{KEY}: {name} does not take args = {args!r}: {error}.") from None
    return metric.set_dtype(torch.float64)


class _Share:
    """The share of targets that are among the k largest outputs."""

    def __init__(self, k: int, name: str) -> None:
        self._k, self._name = k, name
        self._num_right = self._num = 0

    def update(self, pairs: Counted) -> None:
        pairs = pairs.as_classes(self._name)
        if self._k == 1:
            predicted = pairs.output > 0 if pairs.kind == "binary" else pairs.output.argmax(1)
            right = predicted == pairs.target
        else:
            num_classes = 2 if pairs.kind == "binary" else pairs.output.shape[1]
            if self._k >= num_classes:
                raise SpecError(f"{KEY}: {self._name} is 1 whatever the model says, as it has {num_classes} classes.")
            right = (pairs.output.topk(self._k, dim=1).indices == pairs.target[:, None]).any(1)
        self._num_right += int(right.sum())
        self._num += len(right)

    def compute(self) -> float | None:
        return self._num_right / self._num if self._num else None


class _BalancedAccuracy:
    """The mean over the classes that occur of the share of each that was predicted rightly."""

    def __init__(self) -> None:
        self._right = self._support = torch.zeros(0, dtype=torch.float64)

    def update(self, pairs: Counted) -> None:
        pairs = pairs.as_classes("balanced_accuracy")
        binary = pairs.kind == "binary"
        num_classes = 2 if binary else pairs.output.shape[1]
        predicted = (pairs.output > 0).long() if binary else pairs.output.argmax(1)
        support = torch.bincount(pairs.target, minlength=num_classes).double().cpu()
        right = torch.bincount(pairs.target[predicted == pairs.target], minlength=num_classes).double().cpu()
        self._right, self._support = (
            (right + self._right, support + self._support) if len(self._support) else (right, support)
        )

    def compute(self) -> float | None:
        occurs = self._support > 0
        return float((self._right[occurs] / self._support[occurs]).mean()) if bool(occurs.any()) else None


class _Lazy:
    """A metric that is made when the number of classes is known."""

    def __init__(self, name: str, args: dict[str, Any]) -> None:
        self._name, self._args = name, args
        self._metric: Any = None

    def _made(self, make: Callable[..., Any], device: torch.device, **more: Any) -> Any:
        if self._metric is None:
            self._metric = _make(self._name, self._args, make, **more).to(device)
        return self._metric


class _Confusion(_Lazy):
    """F1 and mean IoU: of predicted classes against right ones."""

    def update(self, pairs: Counted) -> None:
        import torchmetrics.classification as kept

        pairs = pairs.as_classes(self._name)
        binary = pairs.kind == "binary"
        predicted = (pairs.output > 0).long() if binary else pairs.output.argmax(1)
        num_classes = 2 if binary else pairs.output.shape[1]
        if self._name == "f1" and num_classes == 2 and "average" not in self._args:
            metric = self._made(kept.BinaryF1Score, predicted.device, validate_args=False)
        else:
            make = kept.MulticlassF1Score if self._name == "f1" else kept.MulticlassJaccardIndex
            metric = self._made(make, predicted.device, num_classes=num_classes, validate_args=False)
        metric.update(predicted, pairs.target)

    def compute(self) -> float | None:
        return None if self._metric is None else float(self._metric.compute())


class _Ranking(_Lazy):
    """AUC and average precision, exactly: from the order of all predictions, which are kept until the end."""

    def __init__(self, name: str, args: dict[str, Any]) -> None:
        super().__init__(name, args)
        self._binary = False
        self._support = torch.zeros(0, dtype=torch.int64)

    def update(self, pairs: Counted) -> None:
        import torchmetrics.classification as kept

        pairs = pairs.as_classes(self._name)
        found = probabilities(pairs)
        self._binary = pairs.kind == "binary" or found.shape[1] == 2
        if self._binary:
            found = found if pairs.kind == "binary" else found[:, 1]
            make: Any = kept.BinaryAUROC if self._name == "auc" else kept.BinaryAveragePrecision
            metric = self._made(make, found.device, validate_args=False)
        else:
            make = kept.MulticlassAUROC if self._name == "auc" else kept.MulticlassAveragePrecision
            more = {"num_classes": found.shape[1], "average": None, "validate_args": False}
            metric = self._made(make, found.device, **more)
        support = torch.bincount(pairs.target, minlength=2 if self._binary else found.shape[1]).cpu()
        self._support = support + self._support if len(self._support) else support
        metric.update(found, pairs.target)

    def compute(self) -> float | None:
        if self._metric is None:
            return None
        # What torchmetrics says of a class without examples, or without counterexamples, is 0, and no measurement.
        occurs = self._support > 0
        if self._name == "auc":
            occurs &= self._support < self._support.sum()
        if self._binary:
            return float(self._metric.compute()) if bool(occurs[1]) else None
        if not bool(occurs.any()):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of those classes
            each = self._metric.compute().cpu()
        return float(each[occurs].double().mean())


class _Perplexity:
    """exp of the mean cross-entropy over the targets that count."""

    def __init__(self, args: dict[str, Any]) -> None:
        from torchmetrics.text import Perplexity

        self._metric = _make("perplexity", args, Perplexity)

    def update(self, pairs: Counted) -> None:
        pairs = pairs.as_classes("perplexity")
        logits = pairs.output.double()
        if pairs.kind == "binary":
            logits = torch.stack([torch.zeros_like(logits), logits], 1)
        self._metric.to(logits.device).update(logits[None], pairs.target[None])

    def compute(self) -> float | None:
        return float(self._metric.compute())


class _Numbers:
    """MAE and RMSE over all elements; R² as the mean over the columns."""

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self._name = name
        self._metric = _make(name, {}, make)
        self._num = 0
        self._first: Tensor | None = None
        self._varies = False

    def update(self, pairs: Counted) -> None:
        if pairs.kind != "numbers":
            raise SpecError(f"{KEY}: {self._name} is of numbers, and the held-out targets are classes.")
        output, target = pairs.output.double(), pairs.target.double()
        self._num += len(target)
        if self._name != "r2":
            output, target = output.flatten(), target.flatten()
        elif not self._varies:
            self._first = target[:1] if self._first is None else self._first
            self._varies = bool((target != self._first).any())
        if self._name == "r2" and output.shape[1] == 1:
            output, target = output[:, 0], target[:, 0]
        self._metric.to(output.device).update(output, target)

    def compute(self) -> float | None:
        # One target, or the same over and over, has no variance to explain.
        if not self._num or (self._name == "r2" and (self._num < 2 or not self._varies)):
            return None
        return float(self._metric.compute())
