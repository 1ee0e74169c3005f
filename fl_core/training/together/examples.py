"""Devices' data as tensors, for training many devices at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from fl_core.spec import TrainingSection
from fl_core.training.targets import IGNORED


@dataclass(frozen=True, slots=True)
class Examples:
    """A device's data as tensors.

    Attributes:
        inputs, targets: the whole of what it is a part of; devices may share these.
        indices: int64 ``(n,)``, which of it is the device's; None for all.
    """

    inputs: Tensor
    targets: Tensor
    indices: Tensor | None

    @property
    def number(self) -> int:
        """How many examples the device has."""
        return len(self.inputs) if self.indices is None else len(self.indices)

    def dataset(self) -> Dataset[Any]:
        """The same as a dataset."""
        whole = TensorDataset(self.inputs, self.targets)
        return whole if self.indices is None else Subset(whole, self.indices)  # type: ignore[arg-type]

    @property
    def num_bytes(self) -> int:
        """Of the device's inputs."""
        return self.number * (self.inputs[0].numel() if len(self.inputs) else 0) * self.inputs.element_size()


def examples_of(dataset: Dataset[Any], settings: TrainingSection) -> Examples | None:
    """A dataset as tensors; None where it is no pair of tensors, or has targets that one loss for all does not take.

    Args:
        dataset: a ``TensorDataset`` of inputs and targets, or a ``Subset`` of one.
        settings: the campaign's.
    """
    indices: Tensor | None = None
    whole: Any = dataset
    if type(whole) is Subset:
        whole, indices = whole.dataset, torch.as_tensor(whole.indices, dtype=torch.int64)
    if type(whole) is not TensorDataset or len(whole.tensors) != 2:
        return None
    inputs, targets = whole.tensors
    if settings.loss == "cross_entropy" and (targets.ndim != 1 or targets.dtype != torch.int64):
        return None
    if settings.loss != "cross_entropy" and not targets.is_floating_point():
        return None
    found = Examples(inputs, targets, indices)
    return found if found.number and _all_count(found, settings) else None


def _all_count(examples: Examples, settings: TrainingSection) -> bool:
    if settings.loss not in ("cross_entropy", "bce_with_logits"):
        return True
    targets = examples.targets if examples.indices is None else examples.targets[examples.indices]
    return not bool((targets == IGNORED).any())


class Reader:
    """Batches of all devices: from the tensors that they share, or from a stack of their own."""

    def __init__(self, examples: Sequence[Examples]) -> None:
        first = examples[0]
        self._places: Tensor | None = None
        if all(one.inputs is first.inputs and one.targets is first.targets for one in examples):
            everything = torch.arange(len(first.inputs))
            self._places = pad([everything if one.indices is None else one.indices for one in examples])
            inputs, targets = first.inputs, first.targets
        else:
            inputs = pad([one.inputs if one.indices is None else one.inputs[one.indices] for one in examples])
            targets = pad([one.targets if one.indices is None else one.targets[one.indices] for one in examples])
        self._inputs, self._targets = _as_float32(inputs), _as_float32(targets)
        self._devices = torch.arange(len(examples))[:, None]

    def __call__(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """The examples of each device at these places among its own, int64 ``(devices, batch)``."""
        if self._places is None:
            return self._inputs[self._devices, order], self._targets[self._devices, order]
        places = self._places[self._devices, order]
        return self._inputs[places], self._targets[places]


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def pad(parts: Sequence[Tensor]) -> Tensor:
    """A stack of tensors of different lengths, with zeros behind the shorter ones."""
    if all(part.shape == parts[0].shape for part in parts):
        return torch.stack(list(parts))
    shape = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
    stacked = parts[0].new_zeros(len(parts), *shape)
    for row, part in zip(stacked, parts, strict=True):
        row[tuple(slice(size) for size in part.shape)] = part
    return stacked
