"""A device's own division of its private data into parts to train on, to tune on, and to test on."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch.utils.data import Dataset, Subset

from fl_core.errors import DataError
from fl_core.training.batches import count_examples


def split_private(
    dataset: Dataset[Any], worker: str, validation_fraction: float, test_fraction: float
) -> tuple[Subset[Any], Subset[Any], Subset[Any]]:
    """Training, validation and test examples: disjoint, and the same ones in every task of this worker.

    Args:
        dataset: map-style.
        worker: its name seeds the division.
        validation_fraction, test_fraction: shares; at least one example each, none where the share is 0.

    Raises:
        DataError: there are fewer than three examples.
    """
    num_examples = count_examples(dataset)
    if num_examples < 3:
        raise DataError(f"This device holds {num_examples} examples; training, validation and test need one each.")
    generator = torch.Generator().manual_seed(zlib.crc32(worker.encode()))
    order = torch.randperm(num_examples, generator=generator).tolist()
    num_test = min(num_examples - 2, _count(test_fraction, num_examples))
    num_validation = min(num_examples - num_test - 1, _count(validation_fraction, num_examples))
    held = num_test + num_validation
    return (
        Subset(dataset, order[held:]),
        Subset(dataset, order[num_test:held]),
        Subset(dataset, order[:num_test]),
    )


def _count(fraction: float, num_examples: int) -> int:
    return max(1, round(fraction * num_examples)) if fraction else 0
