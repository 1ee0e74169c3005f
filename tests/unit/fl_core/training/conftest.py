"""A device's task, made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from fl_core.spec import TrainingSection
from fl_core.training.method import DeviceTask
from fl_core.vectors.layout import Layout


def make_task(model: nn.Module, dataset: Dataset[Any], settings: TrainingSection, **changes: Any) -> DeviceTask:
    """A task on ``model`` as it is now, which is the base version."""
    layout = Layout.of(model)
    base = layout.flatten(model)
    values: dict[str, Any] = {
        "model": model, "layout": layout, "base": base, "version": 1, "sends": "delta", "dataset": dataset,
        "settings": settings, "seed": 5, "device": torch.device("cpu"), "worker": "pi", "memory": {},
    }  # fmt: skip
    base.values.flags.writeable = False
    np.testing.assert_array_equal(layout.flatten(model).values, base.values)
    return DeviceTask(**{**values, **changes})


@pytest.fixture(scope="session")
def device_task() -> Callable[..., DeviceTask]:
    """Makes tasks."""
    return make_task
