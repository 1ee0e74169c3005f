"""Noise on the device: the update that leaves it is already private."""

from __future__ import annotations

from fl_core.errors import SpecError
from fl_core.privacy.grid import RESOLUTION, from_grid, to_grid
from fl_core.privacy.noise import add_rounded_gaussian
from fl_core.privacy.terms import Terms
from fl_core.vectors import FloatArray


def verify_covered(sends: str, part: int, num_state: int) -> None:
    """Refuse what noise on an update does not cover, whatever the order says.

    Args:
        sends: what the task's update is.
        part: of the model; 0 for the whole.
        num_state: running statistics that would travel beside it.

    Raises:
        SpecError: it is no delta of a whole model, or something travels beside it.
    """
    if sends != "delta" or part or num_state:
        what = "running statistics" if num_state else "parts" if part else sends.replace("_", " ")
        raise SpecError(f"this device adds its noise to deltas of whole models, and would have to send {what} as well.")


def privatised(values: FloatArray, terms: Terms, key: bytes) -> FloatArray:
    """An update as it may leave the device: clipped to C, with N(0, (z C)²) in each element.

    Both happen on the integer grid (``grid.py``, ``noise.py``): what is released is a sum of integers, in which no low
    bits of the update are left. An update that is not finite is noise alone.

    Args:
        values: float32 ``(num_parameters,)``, which is not changed.
        terms: clip and noise multiplier.
        key: 32 secret bytes, from the operating system, for this update and nothing else.

    Returns:
        float32 ``(num_parameters,)``, in memory of its own.
    """
    steps = to_grid(values, terms.clip)
    add_rounded_gaussian(steps, key, terms.noise_multiplier * RESOLUTION)
    return from_grid(steps, terms.clip, 1.0)
