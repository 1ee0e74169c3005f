"""Which elements of a delta matter most: a score for each, by which the codec ``topk`` chooses what to send.

==========  ================================================================================================
importance  score of element j of tensor t
==========  ================================================================================================
magnitude   |Δ_j|
gradient    |Δ_j| · mean over the steps of |g_j|: the first-order change of the loss
fisher      Δ_j² · mean over the steps of g_j²: the second-order change, with the Fisher information's diagonal for
            the Hessian (Kirkpatrick et al., PNAS 2017, arXiv 1612.00796)
attention   α_t · |Δ_j| with α = softmax over the tensors of their root-mean-square change over its largest: a layer
            that moves much is listened to, in the manner of FedAtt (Ji et al. 2019, arXiv 1812.07108)
==========  ================================================================================================

Elements that are not sent stay in the error-feedback residual, whatever the score. A score that is 0 everywhere, or not
finite, falls back to the magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fl_core.vectors import FloatArray
from fl_core.vectors.layout import Layout

Score = Callable[[FloatArray], FloatArray]


class GradientAverages:
    """|g| or g² of every trainable parameter, averaged over the steps of a task.

    Args:
        model: whose gradients are looked at.
        kind: ``"gradient"`` or ``"fisher"``.
    """

    def __init__(self, model: nn.Module, kind: str) -> None:
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._sums = {name: torch.zeros_like(p, requires_grad=False) for name, p in self._parameters.items()}
        self._squares = kind == "fisher"
        self._num_steps = 0

    @torch.no_grad()
    def add(self) -> None:
        """Take the present gradients in."""
        self._num_steps += 1
        for name, parameter in self._parameters.items():
            if (gradient := parameter.grad) is not None:
                self._sums[name].add_(gradient.square() if self._squares else gradient.abs())

    def means(self) -> dict[str, Tensor]:
        """The averages so far, by parameter name."""
        return {name: total / max(1, self._num_steps) for name, total in self._sums.items()}


def accumulated(importance: str) -> Literal["", "gradient", "fisher"]:
    """The gradients' power that local training has to average for ``importance``; empty for none."""
    return importance if importance in ("gradient", "fisher") else ""  # type: ignore[return-value]


def score(kind: str, layout: Layout, averages: Mapping[str, Tensor]) -> Score | None:
    """The function from a delta, residual included, to its scores; None for the plain magnitude.

    Args:
        kind: a row of the table above.
        layout: the delta's.
        averages: of ``GradientAverages``, for ``"gradient"`` and ``"fisher"``.
    """
    if kind in ("gradient", "fisher"):
        weights = _flatten(layout, averages)
        return lambda values: _or_magnitude(values, _power(values, kind) * weights)
    if kind == "attention":
        return lambda values: _or_magnitude(values, np.abs(values) * _attention(layout, values))
    return None


def _power(values: FloatArray, kind: str) -> FloatArray:
    return np.square(values) if kind == "fisher" else np.abs(values)


def _or_magnitude(values: FloatArray, scores: FloatArray) -> FloatArray:
    usable = bool(np.isfinite(scores).all()) and bool(scores.any())
    return scores if usable else np.abs(values)


def _flatten(layout: Layout, averages: Mapping[str, Tensor]) -> FloatArray:
    """In the layout's order. A tensor without an average, of a method that keeps none, counts 0."""
    flat: FloatArray = np.zeros(layout.num_elements, np.float32)
    for spec, where in zip(layout.tensors, layout.slices, strict=True):
        if spec.name in averages:
            flat[where] = averages[spec.name].detach().float().cpu().numpy().reshape(-1)
    return flat


def _attention(layout: Layout, values: FloatArray) -> FloatArray:
    rms = np.array([math.sqrt(_mean_square(values[where])) for where in layout.slices])
    top = rms.max(initial=0.0)
    weights = np.exp(rms / top - 1.0) if top > 0 and math.isfinite(top) else np.ones_like(rms)
    weights /= weights.sum()
    flat: FloatArray = np.empty(layout.num_elements, np.float32)
    for weight, where in zip(weights, layout.slices, strict=True):
        flat[where] = weight
    return flat


def _mean_square(part: np.ndarray[Any, Any]) -> float:
    return float(np.mean(np.square(part, dtype=np.float64))) if part.size else 0.0
