"""The vectors that travel, each its own type: a model's parameters, what training added to them, and soft labels.

The first two are one flat float32 vector in the order of the campaign's layout. They are not interchangeable: a
function that wants a ``Delta`` does not type-check with ``Parameters``.

A vector that came from a device may still be encoded: it is then read block by block out of its payload, so that
merging reads memory once and needs no second vector of the model's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]

Sends: TypeAlias = Literal["delta", "parameters", "soft_labels"]
"""The kinds of an update's vector."""

BLOCK = 32_768
"""Elements per block: 128 KiB of each operand, so that three of them fit a core's level-2 cache."""


class Encoded(Protocol):
    """A vector inside a payload that has passed its codec's checks."""

    @property
    def size(self) -> int:
        """How many elements it has."""
        ...

    def read_into(self, out: FloatArray, start: int, weight: float) -> None:
        """out <- weight · elements ``start`` to ``start + out.size``.

        Args:
            out: float32 ``(n,)`` with n at most ``BLOCK``; the end lies within the vector.
            start: a multiple of ``BLOCK``.
            weight: rounded to float32; with 1 the elements are what the codec says they are, and with another weight
                the product may be rounded once more or once less than theirs.
        """
        ...


Vector: TypeAlias = FloatArray | Encoded


def read_into(out: FloatArray, vector: Vector, start: int, weight: float = 1.0) -> None:
    """out <- weight · a block of a vector, encoded or not; the arguments are those of ``Encoded.read_into``."""
    if isinstance(vector, np.ndarray):
        np.multiply(vector[start : start + out.size], np.float32(weight), out=out)
    else:
        vector.read_into(out, start, weight)


def read_all(vector: Vector) -> FloatArray:
    """The whole vector: itself, or decoded into memory of its own.

    >>> read_all(np.ones(2, np.float32)).tolist()
    [1.0, 1.0]
    """
    if isinstance(vector, np.ndarray):
        return vector
    values: FloatArray = np.empty(vector.size, np.float32)
    for start in range(0, vector.size, BLOCK):
        vector.read_into(values[start : start + BLOCK], start, 1.0)
    return values


@dataclass(frozen=True, slots=True)
class Parameters:
    """A model's tensors, flat.

    Attributes:
        vector: ``(num_elements,)``, as an array or still encoded.
    """

    vector: Vector

    @property
    def values(self) -> FloatArray:
        """float32 of shape ``(num_elements,)``; an encoded vector is decoded at each call."""
        return read_all(self.vector)


@dataclass(frozen=True, slots=True)
class Delta:
    """Local parameters minus the base version's.

    Attributes:
        vector: ``(num_elements,)``, as an array or still encoded.
    """

    vector: Vector

    @property
    def values(self) -> FloatArray:
        """float32 of shape ``(num_elements,)``; an encoded vector is decoded at each call."""
        return read_all(self.vector)


@dataclass(frozen=True, slots=True)
class SoftLabels:
    """What a model says of each example of a public data set: class probabilities, example by example.

    Attributes:
        vector: ``(num_examples * num_classes,)``, as an array or still encoded.
    """

    vector: Vector

    @property
    def values(self) -> FloatArray:
        """float32 of shape ``(num_examples * num_classes,)``; an encoded vector is decoded at each call."""
        return read_all(self.vector)
