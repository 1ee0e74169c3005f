"""Numbers of files as inputs and targets: float32 where nothing is lost by it, classes as int64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.errors import DataError

MAX_CLASS = 10_000_000
"""A label above it is an identifier, not a class: a model has an output for each."""
_EXACT = 2**24  # float32 has every whole number up to here


def as_float32(values: npt.NDArray[Any], what: str) -> npt.NDArray[np.float32]:
    """Numbers as float32, of the same shape.

    Args:
        values: integers, floats or booleans.
        what: the file and the column or array, for the error.

    Raises:
        DataError: one is not finite in float32, or whole numbers above 2**24 that differ would become equal.
    """
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if not np.isfinite(single).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(single))[0])
        index = first[0] if len(first) == 1 else first
        raise DataError(
            f"{what} is not a finite float32 number at index {index}, {values[first]}; correct it or leave the example "
            "out."
        )
    if single.size and np.abs(single).max() >= _EXACT:
        _verify_distinct(values, single, what)
    return single


def _verify_distinct(values: npt.NDArray[Any], single: npt.NDArray[np.float32], what: str) -> None:
    if values.dtype.kind == "f" and not (values == np.floor(values)).all():
        return  # measurements, which are rounded anyway
    order = np.argsort(values, axis=None)
    exact, rounded = values.ravel()[order], single.ravel()[order]
    merged = np.flatnonzero((exact[1:] != exact[:-1]) & (rounded[1:] == rounded[:-1]))
    if len(merged):
        one, other = exact[merged[0]], exact[merged[0] + 1]
        raise DataError(
            f"{what} holds whole numbers above 2**24, and {one:.0f} and {other:.0f} are one number in float32; "
            "subtract a start or use larger units, and leave out what only identifies."
        )


def as_classes(values: npt.NDArray[Any], what: str) -> npt.NDArray[np.int64]:
    """Class numbers as int64 ``(n,)``.

    Args:
        values: whole numbers of shape ``(n,)`` or ``(n, 1)``, in any dtype.
        what: the file and the column or array, for the error.

    Raises:
        DataError: one is not a class, or the shape is another.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(
            f"{what} has shape {values.shape}; classes have shape (n,): for one-hot rows store np.argmax(y, axis=1), "
            "and for values set regression = true."
        )
    if values.dtype.kind != "b":
        numbers = values.astype(np.float64)
        wrong = np.flatnonzero(~((numbers >= 0) & (numbers <= MAX_CLASS) & (numbers == np.floor(numbers))))
        if len(wrong):
            raise DataError(
                f"{what} holds {values[wrong[0]]} at example {wrong[0]}, which is no class; number classes from 0, or "
                "set regression = true."
            )
    return values.astype(np.int64)
