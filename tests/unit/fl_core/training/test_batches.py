"""Batches of a given order."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from fl_core.training.batches import iterate, split_order

CPU = torch.device("cpu")


@given(st.integers(1, 100), st.integers(1, 20), st.booleans())
def test_batches_are_the_order_cut_up(num_examples: int, batch_size: int, join_single: bool) -> None:
    """Joined again they are the order, and a joined batch is one larger than asked."""
    order = torch.randperm(num_examples)
    batches = split_order(order, batch_size, join_single)
    assert torch.equal(torch.cat(batches), order)
    sizes = [len(batch) for batch in batches]
    if join_single and batch_size > 1 and num_examples > 1:
        assert min(sizes) > 1
        assert max(sizes) <= batch_size + 1
    elif not join_single:
        assert max(sizes) <= batch_size


def _collect(dataset: Dataset[Any], order: Tensor) -> list[float]:
    batches = split_order(order, 3)
    return [float(v) for x, _ in iterate(dataset, batches, CPU, torch.float32) for v in x]


def test_a_subset_of_tensors_is_gathered_by_its_indices() -> None:
    """A Subset, nested too, shows its own examples in the order asked for."""
    whole = TensorDataset(torch.arange(10).float(), torch.arange(10))
    subset = Subset(Subset(whole, [9, 7, 5, 3, 1]), [4, 0, 2])
    assert _collect(subset, torch.tensor([2, 0, 1])) == [5.0, 1.0, 9.0]


def test_a_subclass_keeps_its_own_getitem() -> None:
    """A TensorDataset whose examples are changed on the way out is not short-cut."""

    class Doubled(TensorDataset):
        def __getitem__(self, index: int) -> tuple[Tensor, ...]:
            x, y = self.tensors[0][index], self.tensors[1][index]
            return 2 * x, y

    assert _collect(Doubled(torch.arange(4).float(), torch.arange(4)), torch.tensor([3, 1])) == [6.0, 2.0]


def test_double_precision_becomes_the_models() -> None:
    """float64 inputs and targets are cast, other dtypes are left."""
    dataset = TensorDataset(torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2, dtype=torch.int64))
    [(x, y)] = iterate(dataset, [torch.arange(2)], CPU, torch.float32)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
