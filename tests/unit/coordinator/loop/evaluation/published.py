"""Versions of a small model on a twin, and held-out data that specs can name."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, TensorDataset

from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.places import Places
from fl_core.broker.bulk.versions import publish_commands, write_version
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.spec import CampaignSpec, parse_spec
from fl_core.vectors import FloatArray
from fl_core.vectors.layout import Layout

LABELLED, UNLABELLED, RAISING, BROKEN = (
    f"{__name__}:{name}" for name in ("labelled", "unlabelled", "raising", "broken")
)
MODEL = {"factory": "torch.nn:Linear", "args": {"in_features": 2, "out_features": 2, "bias": False}}
RIGHT = np.eye(2, dtype=np.float32).ravel()
WRONG = 1 - RIGHT
"""Weights that get all of ``labelled`` right, and none of it."""


def labelled() -> TensorDataset:
    """Eight examples whose class is where their one is."""
    targets = torch.arange(8) % 2
    return TensorDataset(torch.eye(2)[targets], targets)


def unlabelled() -> TensorDataset:
    """No target counts: -100 is what the loss leaves out."""
    return TensorDataset(torch.zeros(8, 2), torch.full((8,), -100))


def raising() -> TensorDataset:
    """A mistake in somebody's code."""
    raise KeyError("no such table")


class _Broken(Dataset[Any]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        raise RuntimeError("this disk is broken")


def broken() -> Dataset[Any]:
    """Another one, which shows only when it is read."""
    return _Broken()


class Published:
    """A campaign's versions.

    Attributes:
        server, client: the twin.
        keys, model, layout: the campaign's.
    """

    def __init__(self) -> None:
        self.server = MemoryServer()
        self.client = MemoryClient(self.server)
        self.keys = CampaignKeys("digits-1")
        self.model = torch.nn.Linear(2, 2, bias=False)
        self.layout = Layout.of(self.model)

    def spec(self, data: str, **evaluation: object) -> CampaignSpec:
        """Evaluates on this data."""
        return parse_spec({"model": MODEL, "evaluation": {"data": data, **evaluation}})

    def publish(self, version: int, values: FloatArray = RIGHT) -> Head:
        """As the newest."""
        head = write_version(Places(self.client), self.keys, version, values.data.cast("B"))
        for command in publish_commands(self.keys, head):
            self.client.execute_command(*command)
        return head
