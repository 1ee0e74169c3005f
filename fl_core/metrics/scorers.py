"""Scorers of ``evaluation.metrics``: objects that take batches in and give a number at the end.

A built-in metric (``built_in.py``) is of the targets that count. A metric of a user's own is an import path to
something that makes an object with ``update(output, target)``, which gets each batch as the loss gets it, and
``compute()``, which gives a number; any class of torchmetrics is one. An attribute ``higher_is_better`` must agree with
the spec.

A number that cannot be had (nothing labelled, a diverged model's NaN, an AUC of one class alone) is absent: None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from fl_core.errors import SpecError
from fl_core.factory import call
from fl_core.metrics.built_in import built_in
from fl_core.metrics.counted import counted
from fl_core.metrics.names import KEY, verify_installed
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
        self._built_in = {each.name: built_in(each) for each in sections if each.factory is None}
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
