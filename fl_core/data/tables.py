"""People's own tables, in text and in Parquet files: each column but the label and the key is an input.

Text is read by numpy, and field by field where that gives up. Parquet needs pyarrow, of the extra ``tables``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import TensorDataset

from fl_core.data.arrays import as_classes, as_float32
from fl_core.data.careful_csv import TextTable, text_column
from fl_core.data.partition import Partition
from fl_core.data.selection import Selection, Split
from fl_core.data.tensors import to_dataset
from fl_core.errors import DataError
from fl_core.program.extras import need

Numbers = npt.NDArray[np.float64]


def csv(
    path: str,
    label: str | int,
    key: str | int | None = None,
    classes: Sequence[str] | None = None,
    regression: bool = False,
    drop: Sequence[str | int] = (),
    header: bool = True,
    delimiter: str = ",",
    decimal: str = ".",
    encoding: str = "utf-8",
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
        path: the file; a relative one starts at the working directory, ``~`` is the home directory.
        label: the target's column: its name in the header, or its index from 0 (-1 is the last).
        key: a column for ``partition = "by_key"``, which is not an input; any text.
        classes: names of the classes where labels are text, in the order of their numbers. It must be the same on all
            devices, so it is never guessed from the file.
        regression: targets are values, not classes.
        drop: columns that are left out, such as names and identifiers.
        header: the first line names the columns.
        delimiter: between fields.
        decimal: the decimal mark, ``"."`` or ``","``.
        encoding: of the text, as Python names it.

    The other arguments are those of ``Selection``.

    Returns:
        x float32 ``(n, num_inputs)``: all other columns; y int64 ``(n,)``, or float32 ``(n,)`` with ``regression``.
        ``true`` and ``false`` are 1 and 0.

    Raises:
        DataError: the file is missing or unreadable, a line has more or fewer fields than the first, a field is not a
            finite number, whole numbers are too large for float32 to tell them apart, or a label is not a class.
        SpecError: an argument is wrong.
    """
    selection = Selection(split, shard, num_shards, partition, alpha, seed, min_examples, test_fraction)
    file = Path(path).expanduser()
    text = TextTable(file, header, delimiter, decimal, encoding)
    roles = _roles(file, text.columns, label, key, drop, f"check delimiter = {delimiter!r}")
    fields = _read_text_fast(text, roles, classes) or _read_text_carefully(text, label, key, drop, classes)
    return _dataset(file, fields, classes, regression, selection)


def parquet(
    path: str,
    label: str | int,
    key: str | int | None = None,
    classes: Sequence[str] | None = None,
    regression: bool = False,
    drop: Sequence[str | int] = (),
    split: Split = "all",
    shard: int | None = None,
    num_shards: int = 1,
    partition: Partition = "iid",
    alpha: float = 0.5,
    seed: int = 0,
    min_examples: int = 10,
    test_fraction: float = 0.2,
) -> TensorDataset:
    """A Parquet file of columns of numbers, one example a row; arguments, result and errors are those of ``csv``.

    Raises:
        SpecError: pyarrow is not installed.
    """
    selection = Selection(split, shard, num_shards, partition, alpha, seed, min_examples, test_fraction)
    need("fl_core.data:parquet", "pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = Path(path).expanduser()
    try:
        with pq.ParquetFile(file) as archive:
            columns = archive.schema_arrow.names
            roles = _roles(file, columns, label, key, drop, "name another file")
            table = archive.read()
    except OSError as error:
        raise DataError(
            f"{file} cannot be read ({error.strerror or error}); give the path of a .parquet file."
        ) from error
    except pa.ArrowInvalid as error:
        raise DataError(f"{file} is not a .parquet file ({error}); write it with pandas or pyarrow.") from error

    def numbers(column: int) -> Numbers:
        values = table.column(column)
        kind = values.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise DataError(
                f"{file}, column {columns[column]!r} has type {kind}; store numbers, or leave the column out with drop."
            )
        if values.null_count:
            raise DataError(
                f"{file}, column {columns[column]!r} has {values.null_count} empty values; fill them in, or remove the "
                "rows."
            )
        return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(), np.float64)

    def text(column: int) -> npt.NDArray[Any]:
        return np.array([str(value).strip() for value in table.column(column).to_pylist()])

    fields = _Fields([columns[i] for i in roles.inputs], len(table), lambda i: numbers(roles.inputs[i]))
    fields.label_name = columns[roles.label]
    fields.label = text(roles.label) if classes is not None else numbers(roles.label)
    fields.key = None if roles.key is None else text(roles.key)
    return _dataset(file, fields, classes, regression, selection)


@dataclass(frozen=True, slots=True)
class _Roles:
    """Which column is what, by index."""

    label: int
    key: int | None
    inputs: list[int]


@dataclass(slots=True)
class _Fields:
    """What was read: inputs a column at a time, so that no second table of float64 is needed."""

    names: list[str]
    num_rows: int
    column: Callable[[int], Numbers]
    label_name: str = ""
    label: npt.NDArray[Any] | None = None
    key: npt.NDArray[Any] | None = None
    lines: list[int] | None = None


def _dataset(
    file: Path, fields: _Fields, classes: Sequence[str] | None, regression: bool, selection: Selection
) -> TensorDataset:
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


def _roles(
    file: Path, columns: Sequence[str], label: str | int, key: str | int | None, drop: Sequence[str | int], hint: str
) -> _Roles:
    label_column = _column(file, columns, label, "label")
    key_column = None if key is None else _column(file, columns, key, "key")
    left_out = {_column(file, columns, name, "drop") for name in drop}
    inputs = [i for i in range(len(columns)) if i not in left_out and i not in (label_column, key_column)]
    if not inputs:
        raise DataError(f"{file} has no column beside the label and the key; {hint}.")
    return _Roles(label_column, key_column, inputs)


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


def _read_text_fast(text: TextTable, roles: _Roles, classes: Sequence[str] | None) -> _Fields | None:
    """By numpy's reader; None where anything is out of the ordinary, which the careful reader names."""
    textual = [] if classes is None else [roles.label]
    textual += [] if roles.key is None else [roles.key]
    numeric = roles.inputs + ([roles.label] if classes is None else [])
    try:
        numbers = text.read_columns(numeric, "f8")
        words = text.read_columns(textual, "O") if textual else numbers
    except (ValueError, OSError):
        return None
    top = float(np.finfo(np.float32).max)
    if not all((np.abs(numbers[str(i)]) <= top).all() for i in numeric):
        return None
    stripped = {i: np.char.strip(words[str(i)].astype(str)) for i in textual}
    # What is quoted behind a blank is a matter for the careful reader.
    if any(np.char.startswith(column, '"').any() for column in stripped.values()):
        return None
    fields = _Fields([text.columns[i] for i in roles.inputs], len(numbers), lambda i: numbers[str(roles.inputs[i])])
    fields.label_name = text.columns[roles.label]
    fields.label = numbers[str(roles.label)] if classes is None else stripped[roles.label]
    fields.key = None if roles.key is None else stripped[roles.key]
    if classes is not None and not set(np.unique(fields.label)) <= set(classes):
        return None
    return fields


def _read_text_carefully(
    text: TextTable,
    label: str | int,
    key: str | int | None,
    drop: Sequence[str | int],
    classes: Sequence[str] | None,
) -> _Fields:
    rows, lines = text.rows()
    roles = _roles(text.file, text.columns, label, key, drop, f"check delimiter = {text.delimiter!r}")
    fields = _Fields(
        [text.columns[i] for i in roles.inputs], len(rows), lambda i: numbers(roles.inputs[i]), lines=lines
    )

    def numbers(column: int) -> Numbers:
        return text.numbers(rows, lines, column)

    fields.label_name = text.columns[roles.label]
    fields.label = text_column(rows, roles.label) if classes is not None else numbers(roles.label)
    fields.key = None if roles.key is None else text_column(rows, roles.key)
    return fields


def _named_classes(file: Path, fields: _Fields, classes: Sequence[str]) -> npt.NDArray[np.int64]:
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
