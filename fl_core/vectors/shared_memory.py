"""That what is trained lies in memory of its own: a tensor in the memory of another one is changed behind its back."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from fl_core.errors import LayoutError

if TYPE_CHECKING:
    import torch

_MAX_WORK = 100_000  # for numpy's exact answer; two tensors that are more of a puzzle pass


def verify_own_memory(tensors: list[tuple[str, torch.Tensor]]) -> None:
    """Refuse trained parameters that share memory with another tensor, or one element of which stands for several.

    Two names of one parameter are fine: that is how weights are tied. Two parameters over one memory, or a buffer that
    is a view of a parameter, would be sent twice and loaded one over the other.

    Args:
        tensors: by name, each once.

    Raises:
        LayoutError: it names both.
    """
    by_memory: dict[int, list[tuple[str, torch.Tensor]]] = {}
    for name, tensor in tensors:
        if tensor.device.type != "cpu" or not tensor.numel():
            continue
        if tensor.requires_grad and any(
            step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True)
        ):
            raise LayoutError(
                f"Several elements of the parameter {name!r} are one place in memory, as after expand(); use clone()."
            )
        by_memory.setdefault(tensor.untyped_storage().data_ptr(), []).append((name, tensor))
    for group in by_memory.values():
        for (name, one), (other_name, other) in combinations(group, 2):
            if (one.requires_grad or other.requires_grad) and _overlap(one, other):
                raise LayoutError(
                    f"The tensors {name!r} and {other_name!r} lie in the same memory, and training changes it; tie "
                    "weights by giving both modules one Parameter, or give each its own memory with clone()."
                )


def _overlap(one: torch.Tensor, other: torch.Tensor) -> bool:
    try:
        # numpy's stub knows of two special values alone.
        return bool(np.shares_memory(_places(one), _places(other), max_work=_MAX_WORK))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return False


def _places(tensor: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """The same memory, in a type that numpy has."""
    import torch

    plain = tensor.detach()
    return (plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain).numpy()
