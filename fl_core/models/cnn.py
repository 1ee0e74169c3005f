"""A small convolutional network for images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from fl_core.errors import SpecError
from fl_core.models.arguments import verify_fraction, verify_positive, verify_sizes


def cnn(
    channels: int,
    height: int,
    width: int,
    classes: int = 10,
    filters: Sequence[int] = (16, 32),
    hidden: int | None = None,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> nn.Module:
    """Blocks of 3x3 convolution, ReLU and 2x2 max-pooling, then linear layers.

    float32 ``(batch, channels, height, width)`` -> logits ``(batch, classes)``.

    Args:
        channels: colours of the image; 1 for grey.
        height: rows. Each block halves the image, so both sides must be at least 2 to the number of blocks.
        width: columns.
        classes: outputs.
        filters: output channels of each block; at least one.
        hidden: size of a linear layer between the blocks and the outputs; none by default.
        batch_norm: normalise after each convolution.
        dropout: probability of dropping an input of the linear layers, in [0, 1).

    Raises:
        SpecError: an argument is not of that form, or the image is too small for so many blocks.
    """
    verify_positive("cnn", channels=channels, height=height, width=width, classes=classes)
    verify_sizes("cnn", "filters", filters)
    verify_fraction("cnn", "dropout", dropout)
    if hidden is not None:
        verify_positive("cnn", hidden=hidden)
    if not filters:
        raise SpecError("cnn: filters = [] leaves no convolution; name at least one size or use mlp.")
    smallest = 2 ** len(filters)
    if min(height, width) < smallest:
        raise SpecError(
            f"cnn: an image of {height}x{width} is too small for {len(filters)} blocks, "
            f"which need {smallest}x{smallest}; shorten filters."
        )
    layers: list[nn.Module] = []
    depth = channels
    for size in filters:
        layers.append(nn.Conv2d(depth, size, kernel_size=3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(size))
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        depth = size
    layers.append(nn.Flatten())
    features = depth * (height // smallest) * (width // smallest)
    if dropout:
        layers.append(nn.Dropout(dropout))
    if hidden is not None:
        layers += [nn.Linear(features, hidden), nn.ReLU()]
        features = hidden
    layers.append(nn.Linear(features, classes))
    return nn.Sequential(*layers)
