"""A small model for points in the plane."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MoonNet(nn.Module):
    """Points ``(batch, 2)`` and their squares, through one hidden layer, to logits ``(batch, 2)``."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, hidden)
        self.output = nn.Linear(hidden, 2)

    def forward(self, points: Tensor) -> Tensor:
        features = torch.cat([points, points.square()], dim=1)
        logits: Tensor = self.output(torch.tanh(self.hidden(features)))
        return logits


def moon_net(hidden: int = 32) -> MoonNet:
    """The factory that campaign.toml names."""
    return MoonNet(hidden)
