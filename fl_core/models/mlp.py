"""A multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from fl_core.models.arguments import verify_fraction, verify_positive, verify_sizes


def mlp(
    inputs: int, hidden: Sequence[int] = (128,), classes: int = 10, batch_norm: bool = False, dropout: float = 0.0
) -> nn.Module:
    """Linear layers with ReLU between them: float32 ``(batch, ...)`` of ``inputs`` elements -> ``(batch, classes)``.

    Args:
        inputs: elements of one example; its other dimensions are flattened, so an image may be given.
        hidden: sizes of the hidden layers; an empty list makes a linear model.
        classes: outputs. They are logits, or the values themselves in a regression.
        batch_norm: normalise before each ReLU.
        dropout: probability of dropping a hidden unit, in [0, 1).

    Raises:
        SpecError: an argument is not of that form.
    """
    verify_positive("mlp", inputs=inputs, classes=classes)
    verify_sizes("mlp", "hidden", hidden)
    verify_fraction("mlp", "dropout", dropout)
    layers: list[nn.Module] = [nn.Flatten()]
    width = inputs
    for size in hidden:
        layers.append(nn.Linear(width, size))
        if batch_norm:
            layers.append(nn.BatchNorm1d(size))
        layers.append(nn.ReLU())
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = size
    layers.append(nn.Linear(width, classes))
    return nn.Sequential(*layers)
