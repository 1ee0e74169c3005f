"""Batches: a dataset's examples, some at a time, in a given order, as the model wants them.

An example is a pair (input, target). The input is a tensor, or a tuple or a dictionary of tensors for a model that
takes several.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from fl_core.errors import DataError


def count_examples(dataset: Dataset[Any]) -> int:
    """The size of a map-style dataset.

    Raises:
        DataError: the dataset has no size, or no examples.
    """
    kind = type(dataset).__name__
    if isinstance(dataset, IterableDataset):
        raise DataError(f"{kind} is an IterableDataset; return a map-style dataset, with __len__ and __getitem__.")
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DataError(f"{kind} is not a dataset; return one with __len__ and __getitem__.")
    num_examples = len(dataset)
    if num_examples == 0:
        raise DataError(f"{kind} holds no examples; give this device data or take it out of the fleet.")
    return num_examples


def split_order(order: Tensor, batch_size: int, join_single: bool = False) -> list[Tensor]:
    """Cut an order of examples into batches; the last one may be smaller.

    Args:
        order: int64 ``(num_examples,)``.
        batch_size: >= 1.
        join_single: let a last batch of a single example join the one before, which then has ``batch_size + 1``:
            batch normalisation cannot train on one example, and dropping it would never show it to the model.
    """
    batches = list(torch.split(order, batch_size))
    if join_single and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [order[-(batch_size + 1) :]]
    return batches


def iterate(
    dataset: Dataset[Any], batches: Sequence[Tensor], device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[Any, Tensor]]:
    """Yield (inputs, target) for each batch of indices, on ``device``; float64 becomes the model's ``dtype``.

    Raises:
        DataError: the dataset's examples are not pairs, or the target is not a tensor.
    """
    tensors = _as_tensors(dataset)
    if tensors is not None:
        # One indexing operation a batch. A DataLoader fetches and collates example by example, which takes longer
        # than training on them where the model is small (measured: 90 us for a batch of 32, against 6).
        for batch in batches:
            yield _prepare([tensor[batch] for tensor in tensors], device, dtype)
        return
    loader = DataLoader(
        dataset,
        batch_sampler=[batch.tolist() for batch in batches],
        num_workers=0,
        generator=torch.Generator(),  # otherwise each pass draws from torch's global generator
    )
    for item in loader:
        yield _prepare(item, device, dtype)


def apply(model: nn.Module, inputs: Any) -> Tensor:
    """Call a model with a batch's inputs: a tensor as it is, a tuple as arguments, a dictionary as keywords.

    Raises:
        DataError: the model returns something other than a tensor.
    """
    if isinstance(inputs, dict):
        output = model(**inputs)
    elif isinstance(inputs, (tuple, list)):
        output = model(*inputs)
    else:
        output = model(inputs)
    if not isinstance(output, Tensor):
        raise DataError(f"{type(model).__name__} returned {type(output).__name__}; a model's output is one tensor.")
    return output


def floating_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of the model's first floating-point parameter; float32 where it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _as_tensors(dataset: Dataset[Any]) -> tuple[Tensor, ...] | None:
    # Exact types: a subclass may change __getitem__.
    if type(dataset) is TensorDataset:
        return dataset.tensors
    if type(dataset) is Subset:
        tensors = _as_tensors(dataset.dataset)
        if tensors is not None:
            indices = torch.as_tensor(dataset.indices)
            return tuple(tensor[indices] for tensor in tensors)
    return None


def _prepare(item: Any, device: torch.device, dtype: torch.dtype) -> tuple[Any, Tensor]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        shape = f"{len(item)} parts" if isinstance(item, (tuple, list)) else type(item).__name__
        raise DataError(f"The dataset's examples are {shape}; return pairs (input, target).")
    inputs, target = item
    if not isinstance(target, Tensor):
        raise DataError(f"The dataset's target is {type(target).__name__}; return a tensor or a number.")
    return _move(inputs, device, dtype), _move(target, device, dtype)


def _move(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        # Python floats and NumPy's default arrive as float64, which a float32 model refuses.
        return value.to(device, dtype) if value.dtype == torch.float64 else value.to(device)
    if isinstance(value, dict):
        return {name: _move(part, device, dtype) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_move(part, device, dtype) for part in value)
    return value
