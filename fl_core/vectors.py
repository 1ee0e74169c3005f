"""The two vectors of federated learning, as two types: a model's parameters, and what training added to them.

Both hold one flat float32 array in the order of the campaign's layout. They are not interchangeable: a function that
wants a ``Delta`` does not type-check with ``Parameters``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Parameters:
    """A model's tensors, flat: ``values`` is float32 of shape ``(num_elements,)``."""

    values: FloatArray


@dataclass(frozen=True, slots=True)
class Delta:
    """Local parameters minus the base version's: ``values`` is float32 of shape ``(num_elements,)``."""

    values: FloatArray
