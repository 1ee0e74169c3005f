"""A table's columns: which is the target, which the key and which are inputs, and the data set that they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import TensorDataset

from fl_core.data.arrays import as_classes, as_float32
from fl_core.data.selection import Selection
from fl_core.data.tensors import to_dataset
from fl_core.errors import DataError

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Roles:
    """Which column is what, by index."""

    label: int
    key: int | None
    inputs: list[int]


@dataclass(slots=True)
class Fields:
    """What was read: inputs a column at a time, so that no second table of float64 is needed."""

    names: list[str]
    num_rows: int
    column: Callable[[int], Numbers]
    label_name: str = ""
    label: npt.NDArray[Any] | None = None
    key: npt.NDArray[Any] | None = None
    lines: list[int] | None = None


def dataset_of(
    file: Path, fields: Fields, classes: Sequence[str] | None, regression: bool, selection: Selection
) -> TensorDataset:
    """The examples that a selection takes of what was read; inputs float32, targets as ``csv`` gives them.

    Raises:
        DataError: there are none, or a number or a label is not as it must be.
    """
    if not fields.num_rows or fields.label is None:
        raise DataError(f"{file} holds no examples; fill it or name another file.")
    inputs = np.empty((fields.num_rows, len(fields.names)), np.float32)
    for position, name in enumerate(fields.names):
        inputs[:, position] = as_float32(fields.column(position), f"{file}: column {name!r}")
    what = f"{file}: column {fields.label_name!r}"
    targets: npt.NDArray[Any]
    if classes is not None:
        targets = _named_classes(file, fields, classes)
    else:
        targets = as_float32(fields.label, what) if regression else as_classes(fields.label, what)
    chosen = selection.choose(targets, fields.key)
    return to_dataset(inputs[chosen], targets[chosen])


def roles_of(
    file: Path, columns: Sequence[str], label: str | int, key: str | int | None, drop: Sequence[str | int], hint: str
) -> Roles:
    """Which column is what, from names or indices.

    Args:
        hint: what to do where no input is left.

    Raises:
        DataError: a column is not there, or no input is left.
    """
    label_column = _column(file, columns, label, "label")
    key_column = None if key is None else _column(file, columns, key, "key")
    left_out = {_column(file, columns, name, "drop") for name in drop}
    inputs = [i for i in range(len(columns)) if i not in left_out and i not in (label_column, key_column)]
    if not inputs:
        raise DataError(f"{file} has no column beside the label and the key; {hint}.")
    return Roles(label_column, key_column, inputs)


def _column(file: Path, columns: Sequence[str], wanted: str | int, argument: str) -> int:
    if isinstance(wanted, str) and columns.count(wanted) > 1:
        where = " and ".join(str(i) for i, name in enumerate(columns) if name == wanted)
        raise DataError(f"{file}: {argument} = {wanted!r} names columns {where}; give the index of the one you mean.")
    if isinstance(wanted, str) and wanted in columns:
        return columns.index(wanted)
    if isinstance(wanted, int) and not isinstance(wanted, bool) and -len(columns) <= wanted < len(columns):
        return wanted % len(columns)
    shown = ", ".join(map(repr, columns[:20])) + (", ..." if len(columns) > 20 else "")
    raise DataError(f"{file}: {argument} = {wanted!r} is no column; the columns are {shown}.")


def _named_classes(file: Path, fields: Fields, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    numbers = {name: number for number, name in enumerate(classes)}
    assert fields.label is not None
    targets = np.array([numbers.get(str(name), -1) for name in fields.label], np.int64)
    unknown = np.flatnonzero(targets < 0)
    if len(unknown):
        row = int(unknown[0])
        where = f"line {fields.lines[row]}" if fields.lines else f"example {row}"
        raise DataError(
            f"{file}, {where}: label {str(fields.label[row])!r} is not in classes; add it or correct the line."
        )
    return targets
