"""Batches: a dataset's examples, some at a time, in a given order, as the model wants them.

``fl_core/training/forward.py`` says what an example may be, and which part of it is the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from fl_core.errors import DataError
from fl_core.training.forward import split_batch


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
            batch normalisation over vectors cannot train on one example, and dropping it would never show it to the
            model. Where all batches are of one, they are meant so.
    """
    batches = list(torch.split(order, batch_size))
    if join_single and batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [order[-(batch_size + 1) :]]
    return batches


def iterate(
    dataset: Dataset[Any], batches: Sequence[Tensor], device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[Any, Tensor]]:
    """Yield (inputs, target) for each batch of indices, on ``device``; float64 becomes the model's ``dtype``.

    Raises:
        DataError: an example is none of the forms that ``split_batch`` takes.
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
        collate_fn=_collate,
    )
    for item in loader:
        yield _prepare(item, device, dtype)


def _collate(examples: Any) -> Any:
    """One batch of these examples."""
    try:
        return default_collate(examples)
    except (RuntimeError, TypeError, KeyError) as error:
        said = str(error).partition("\n")[0].rstrip(".")
        raise DataError(
            f"The dataset's examples do not make a batch ({said}); return tensors, arrays or numbers, of the same "
            "shape in every example (sequences are padded to one length)."
        ) from error


def known_targets(dataset: Dataset[Any]) -> Tensor | None:
    """All targets of a dataset of tensors; None where they are only had example by example."""
    tensors = _as_tensors(dataset)
    return tensors[1] if tensors is not None and len(tensors) == 2 else None


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


def _prepare(batch: Any, device: torch.device, dtype: torch.dtype) -> tuple[Any, Tensor]:
    inputs, target = split_batch(batch)
    return _move(inputs, device, dtype), _move(target, device, dtype)


def _move(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        # Python floats and NumPy's default arrive as float64, which a float32 model refuses.
        return value.to(device, dtype) if value.dtype == torch.float64 else value.to(device)
    if isinstance(value, Mapping):
        return {name: _move(part, device, dtype) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_move(part, device, dtype) for part in value)
    return value
