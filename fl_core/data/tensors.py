"""Arrays as a dataset that local training can gather whole batches from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import TensorDataset


def to_dataset(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> TensorDataset:
    """Pairs (x, y) as tensors of the same dtypes, in C order."""
    return TensorDataset(torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(np.ascontiguousarray(y)))
