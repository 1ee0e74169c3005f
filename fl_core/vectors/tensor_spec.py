"""One tensor of a layout: name, shape, dtype and role, and its row in the layout's map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fl_core.errors import LayoutError
from fl_core.vectors.buffers import ROLES, Role

DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})
_MAX_DIMENSIONS = 32


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of the layout.

    Attributes:
        name: its key in the ``state_dict``.
        shape: its dimensions; ``()`` is a scalar.
        dtype: the model's own, ``"float32"`` for instance; the vector is float32 in any case.
        role: what becomes of it, see ``fl_core/vectors/buffers.py``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    role: Role = "weight"

    @property
    def trainable(self) -> bool:
        """Whether devices train it."""
        return self.role == "weight"

    @property
    def num_elements(self) -> int:
        """The product of the dimensions."""
        return math.prod(self.shape)

    def to_row(self) -> list[Any]:
        """Plain lists and strings; ``spec_from_row`` is the inverse."""
        return [self.name, list(self.shape), self.dtype, self.role]

    def __str__(self) -> str:
        return f"{self.name!r} {list(self.shape)} {self.dtype} ({self.role})"


def spec_from_row(number: int, row: object) -> TensorSpec:
    """What ``TensorSpec.to_row`` wrote; whatever else stands there is refused.

    Args:
        number: the tensor's place in the layout, for the error.

    Raises:
        LayoutError: the form is wrong.
    """
    if not isinstance(row, list | tuple) or len(row) != 4:
        raise LayoutError(f"Tensor {number} of the layout is {row!r:.80}; it must be [name, shape, dtype, role].")
    name, shape, dtype, role = row
    if not isinstance(name, str) or not name:
        raise LayoutError(f"The name of tensor {number} of the layout is {name!r:.80}; it must be text.")
    if not isinstance(shape, list | tuple) or len(shape) > _MAX_DIMENSIONS:
        raise LayoutError(
            f"The shape of {name!r:.80} is {shape!r:.80}; it must be a list of at most {_MAX_DIMENSIONS}."
        )
    if not all(type(size) is int and size >= 0 for size in shape):
        raise LayoutError(f"The shape of {name!r:.80} is {shape!r:.80}; each dimension must be a number from 0.")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise LayoutError(f"The dtype of {name!r:.80} is {dtype!r:.80}; it must be one of {', '.join(sorted(DTYPES))}.")
    if isinstance(role, bool):
        raise LayoutError(
            "The layout was written by a version of fedtide that took buffers for weights; launch the campaign anew."
        )
    if role not in ROLES:
        raise LayoutError(f"The role of {name!r:.80} is {role!r:.80}; it must be one of {', '.join(ROLES)}.")
    return TensorSpec(name, tuple(shape), dtype, role)
