"""A model and data for measuring everything but training: one flat parameter, one example, no gradient.

``fedtide-worker --data no_training:one_example`` with ``model.factory = "no_training:flat"``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset


class _Unmoved(torch.autograd.Function):
    """A scalar that autograd ties to a tensor without ever computing a gradient for it: SGD then skips the tensor."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.new_zeros(1, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        return None


class Flat(nn.Module):
    """``num_elements`` float32 in one parameter. A step of training does not read them.

    Args:
        num_elements: 4 bytes each, which is what travels.
        drift: with another value than 0 a step multiplies the parameter by 1 + ``drift``, one pass over the memory, so
            that a delta is not zero (a codec may be faster on zeros).
    """

    def __init__(self, num_elements: int, drift: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.rand(num_elements).sub_(0.5))
        self.drift = drift

    def forward(self, inputs: Tensor) -> Tensor:
        if self.drift:
            with torch.no_grad():
                self.values.mul_(1.0 + self.drift)
        scalar: Tensor = _Unmoved.apply(self.values)
        return scalar


def flat(num_elements: int, drift: float = 0.0) -> Flat:
    """The factory of the model."""
    return Flat(num_elements, drift)


def one_example() -> TensorDataset:
    """The factory of the data: a zero and its target, a zero, so that the loss ``mse`` is zero."""
    return TensorDataset(torch.zeros(1, 1), torch.zeros(1, 1))
