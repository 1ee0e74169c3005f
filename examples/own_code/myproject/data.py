"""Two half-moons, one per class. Each device sees them turned by an angle of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.data import Dataset


class TwoMoons(Dataset[tuple[Tensor, Tensor]]):
    """A map-style dataset: ``len`` and indexing are all that fedtide asks for.

    Args:
        num_examples: how many points.
        seed: of the points; each device has its own.
        turn_degrees: how far this device's moons are turned.
        noise: standard deviation of each coordinate.
    """

    def __init__(self, num_examples: int, seed: int, turn_degrees: float, noise: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 2, (num_examples,), generator=generator)
        angle = math.pi * torch.rand(num_examples, generator=generator)
        upper = torch.stack([angle.cos(), angle.sin()], dim=1)
        lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
        points = torch.where(self.labels[:, None] == 0, upper, lower) - torch.tensor([0.5, 0.25])
        turn = math.radians(turn_degrees)
        rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        self.points = points @ rotation.T + noise * torch.randn(num_examples, 2, generator=generator)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.points[index], self.labels[index]


def moons(num_examples: int = 400, seed: int = 0, turn_degrees: float = 0.0, noise: float = 0.15) -> TwoMoons:
    """The factory that campaign.toml and fleet.toml name."""
    return TwoMoons(num_examples, seed, turn_degrees, noise)
