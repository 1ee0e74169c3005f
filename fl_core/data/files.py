"""People's own data in ``.npz`` and ``.csv`` files.

A device's file is normally all its own, so ``split`` is ``"all"`` by default here. Where devices and the coordinator's
evaluation read the same file, write ``split = "train"`` for the ones and ``"test"`` for the other.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from csv import Error as CsvError
from csv import reader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import TensorDataset

from fl_core.data.partition import Partition
from fl_core.data.selection import Selection, Split
from fl_core.data.tensors import to_dataset
from fl_core.errors import DataError


def npz(
    path: str,
    x: str = "x",
    y: str = "y",
    key: str | None = None,
    regression: bool = False,
    split: Split = "all",
    shard: int | None = None,
    num_shards: int = 1,
    partition: Partition = "iid",
    alpha: float = 0.5,
    seed: int = 0,
    min_examples: int = 10,
    test_fraction: float = 0.2,
) -> TensorDataset:
    """Arrays of one ``.npz`` file, as ``np.savez`` writes it. Pickled arrays are refused, never loaded.

    Args:
        path: the file; a relative one starts at the working directory, ``~`` is the home directory.
        x: name of the inputs, numbers of shape ``(n, ...)``; ``(n,)`` becomes ``(n, 1)``.
        y: name of the targets: classes 0, 1, ... of shape ``(n,)``, or any numbers with ``regression``.
        key: name of an array of shape ``(n,)`` for ``partition = "by_key"``.
        regression: targets are values, not classes.

    The other arguments are those of ``Selection``.

    Returns:
        x float32 ``(n, ...)``; y int64 ``(n,)``, or float32 of its own shape with ``regression``.

    Raises:
        DataError: the file is missing or unreadable, an array is missing, not numeric, not finite or of another length.
        SpecError: an argument is wrong.
    """
    selection = Selection(split, shard, num_shards, partition, alpha, seed, min_examples, test_fraction)
    file = Path(path).expanduser()
    names = [name for name in (x, y, key) if name is not None]
    arrays = _read_npz(file, names)
    for name in names:
        if arrays[name].ndim == 0 or len(arrays[name]) != len(arrays[x]):
            raise DataError(
                f"{file}: {name!r} has shape {arrays[name].shape} and {x!r} has {arrays[x].shape}; "
                "give both as many rows."
            )
    inputs = _finite(_numbers(arrays[x], f"{file}: {x!r}"), f"{file}: {x!r}")
    targets = _targets(_numbers(arrays[y], f"{file}: {y!r}"), f"{file}: {y!r}", regression)
    keys = None if key is None else arrays[key]
    return _select(file, inputs, targets, keys, selection)


def csv(
    path: str,
    label: str | int,
    key: str | int | None = None,
    classes: Sequence[str] | None = None,
    regression: bool = False,
    header: bool = True,
    delimiter: str = ",",
    split: Split = "all",
    shard: int | None = None,
    num_shards: int = 1,
    partition: Partition = "iid",
    alpha: float = 0.5,
    seed: int = 0,
    min_examples: int = 10,
    test_fraction: float = 0.2,
) -> TensorDataset:
    """A table of numbers in a text file, one example a line.

    Args:
        path: the file, UTF-8; a relative one starts at the working directory, ``~`` is the home directory.
        label: the target's column: its name in the header, or its index from 0 (-1 is the last).
        key: a column for ``partition = "by_key"``, which is not an input; any text.
        classes: names of the classes where labels are text, in the order of their numbers. It must be the same on all
            devices, so it is never guessed from the file.
        regression: targets are values, not classes.
        header: the first line names the columns.
        delimiter: between fields.

    The other arguments are those of ``Selection``.

    Returns:
        x float32 ``(n, num_inputs)``: all other columns; y int64 ``(n,)``, or float32 ``(n,)`` with ``regression``.

    Raises:
        DataError: the file is missing or unreadable, a line has more or fewer fields than the first, a field is not a
            finite number, or a label is not a class.
        SpecError: an argument is wrong.
    """
    selection = Selection(split, shard, num_shards, partition, alpha, seed, min_examples, test_fraction)
    file = Path(path).expanduser()
    columns, rows, lines = _read_rows(file, header, delimiter)
    label_column = _column(file, columns, label, "label")
    key_column = None if key is None else _column(file, columns, key, "key")
    input_columns = [i for i in range(len(columns)) if i not in (label_column, key_column)]
    if not input_columns:
        raise DataError(f"{file} has no column beside the label and the key; check delimiter = {delimiter!r}.")
    inputs = _parse(file, rows, lines, columns, input_columns)
    if classes is not None:
        targets = _named_classes(file, rows, lines, label_column, classes)
    else:
        values = _parse(file, rows, lines, columns, [label_column])[:, 0]
        targets = _targets(values, f"{file}: column {columns[label_column]!r}", regression)
    keys = None if key_column is None else np.array([row[key_column] for row in rows])
    return _select(file, inputs, targets, keys, selection)


def _select(
    file: Path,
    inputs: npt.NDArray[np.float32],
    targets: npt.NDArray[Any],
    keys: npt.NDArray[Any] | None,
    selection: Selection,
) -> TensorDataset:
    if not len(inputs):
        raise DataError(f"{file} holds no examples; fill it or name another file.")
    chosen = selection.choose(targets, keys)
    if inputs.ndim == 1:
        inputs = inputs[:, None]
    return to_dataset(inputs[chosen], targets[chosen])


def _read_npz(file: Path, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    try:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{file} holds a single array; save inputs and targets together with np.savez.")
        with archive:
            for name in names:
                if name not in archive.files:
                    raise DataError(
                        f"{file} has no array {name!r}; it has {', '.join(map(repr, archive.files)) or 'none'}."
                    )
            return {name: archive[name] for name in names}
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}); give the path of a .npz file.") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is not a .npz file of plain arrays ({error}); write it with np.savez.") from error


def _read_rows(file: Path, header: bool, delimiter: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Column names, the rows that are not blank, and the line in the file on which each row ends, from 1."""
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            table = reader(stream, delimiter=delimiter, strict=True)
            for row in table:
                if row:
                    rows.append(row)
                    lines.append(table.line_num)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); give the path of a .csv file.") from error
    except (UnicodeDecodeError, CsvError) as error:
        raise DataError(f"{file} is not a UTF-8 .csv file: {error}.") from error
    except TypeError as error:
        raise DataError(f"delimiter = {delimiter!r} is not accepted; use one character.") from error
    if not rows:
        raise DataError(f"{file} holds no examples; fill it or name another file.")
    columns = [name.strip() for name in rows[0]] if header else [str(i) for i in range(len(rows[0]))]
    if header:
        rows, lines = rows[1:], lines[1:]
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(columns):
            raise DataError(
                f"{file}, line {line}: {len(row)} fields where the first line has {len(columns)}; make them equal."
            )
    return columns, rows, lines


def _column(file: Path, columns: Sequence[str], wanted: str | int, argument: str) -> int:
    if isinstance(wanted, str) and wanted in columns:
        return columns.index(wanted)
    if isinstance(wanted, int) and not isinstance(wanted, bool) and -len(columns) <= wanted < len(columns):
        return wanted % len(columns)
    shown = ", ".join(map(repr, columns[:20])) + (", ..." if len(columns) > 20 else "")
    raise DataError(f"{file}: {argument} = {wanted!r} is no column; the columns are {shown}.")


def _parse(
    file: Path, rows: list[list[str]], lines: list[int], columns: Sequence[str], wanted: list[int]
) -> npt.NDArray[np.float32]:
    """The wanted columns as float32 ``(rows, len(wanted))``; the error names the first bad field's place."""
    table = np.empty((len(rows), len(wanted)), dtype=np.float32)
    try:
        with np.errstate(over="ignore"):
            for position, column in enumerate(wanted):
                table[:, position] = np.array([row[column] for row in rows], dtype=np.float64)
    except ValueError:
        table[:] = [[_number_or_nan(row[column]) for column in wanted] for row in rows]
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        row, position = bad[0]
        column = wanted[position]
        raise DataError(
            f"{file}, line {lines[row]}, column {columns[column]!r}: {rows[row][column]!r} is not a finite number; "
            "correct it or remove the line."
        )
    return table


def _number_or_nan(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return float("nan")


def _named_classes(
    file: Path, rows: list[list[str]], lines: list[int], column: int, classes: Sequence[str]
) -> npt.NDArray[np.int64]:
    numbers = {name: number for number, name in enumerate(classes)}
    targets = np.empty(len(rows), dtype=np.int64)
    for i, row in enumerate(rows):
        number = numbers.get(row[column].strip())
        if number is None:
            raise DataError(
                f"{file}, line {lines[i]}: label {row[column]!r} is not in classes; add it or correct the line."
            )
        targets[i] = number
    return targets


def _numbers(array: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} has dtype {array.dtype}; store numbers.")
    return array


def _finite(array: npt.NDArray[Any], what: str) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    if not np.isfinite(values).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise DataError(f"{what} is not a finite float32 number at index {first}; correct it or leave the example out.")
    return values


def _targets(values: npt.NDArray[Any], what: str, regression: bool) -> npt.NDArray[Any]:
    """Values as float32, or classes as int64."""
    finite = _finite(values, what)
    if regression:
        return finite
    if values.ndim != 1:
        raise DataError(f"{what} has shape {values.shape}; classes have shape (n,), values need regression = true.")
    wrong = np.flatnonzero((finite < 0) | (finite != np.floor(finite)))
    if len(wrong):
        raise DataError(
            f"{what} holds {values[wrong[0]]} at example {wrong[0]}, which is no class; "
            "number classes from 0, or set regression = true."
        )
    return values.astype(np.int64)
