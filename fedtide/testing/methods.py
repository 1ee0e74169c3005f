"""One task on one device, made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from fl_core.spec import TrainingSection
from fl_core.training.method import DeviceTask, Method, Outcome
from fl_core.vectors.layout import Layout


def device_task(
    model: nn.Module, dataset: Dataset[Any], settings: TrainingSection | None = None, **changes: Any
) -> DeviceTask:
    """A task whose base version is ``model`` as it is now.

    Args:
        model: is trained in place.
        dataset: the device's private data.
        settings: ``[training]``; by default one epoch of SGD.
        changes: other fields of ``DeviceTask``.
    """
    layout = Layout.of(model)
    base = layout.flatten(model)
    base.values.flags.writeable = False
    values: dict[str, Any] = {
        "model": model, "layout": layout, "base": base, "version": 1, "sends": "delta", "dataset": dataset,
        "settings": settings or TrainingSection(), "seed": 5, "device": torch.device("cpu"), "worker": "pi",
        "memory": {},
    }  # fmt: skip
    return DeviceTask(**{**values, **changes})


def one_task(
    method: Method,
    model: nn.Module,
    dataset: Dataset[Any],
    settings: TrainingSection | None = None,
    **changes: Any,
) -> Outcome:
    """Have a method do one task, and look at the form of what it sends.

    Args:
        method: one that was built.
        model, dataset, settings, changes: as of ``device_task``; ``sends`` is the method's first where it is not given.

    Raises:
        AssertionError: what it sends is not finite, is not float32 or has another size than the weights. The size of a
            part (``Outcome.part``) and of soft labels is the strategy's business.

    >>> from fedtide import LocalSGD
    >>> from torch.utils.data import TensorDataset
    >>> data = TensorDataset(torch.ones(8, 3), torch.zeros(8, dtype=torch.int64))
    >>> one_task(LocalSGD(), nn.Linear(3, 2), data).values.shape
    (8,)
    """
    task = device_task(model, dataset, settings, **{"sends": method.sends[0], **changes})
    outcome = method.train(task)
    name = type(method).__name__
    assert isinstance(outcome, Outcome), f"{name}.train() gave a {type(outcome).__name__}, no Outcome"
    values: Any = outcome.values
    whole = outcome.part == 0 and task.sends != "soft_labels"
    shape = (task.layout.num_parameters,) if whole else np.shape(values)
    form = f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
    assert form == f"float32 of shape {shape}", f"{name} sends {form}; it is float32 of shape {shape}"
    assert np.isfinite(values).all(), f"{name} sends NaN or infinite values"
    return outcome
