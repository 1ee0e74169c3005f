"""People's own tables, in text and in Parquet files: each column but the label and the key is an input.

Text is read by numpy, and field by field where that gives up. Parquet needs pyarrow, of the extra ``tables``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import TensorDataset

from fl_core.data.careful_csv import TextTable, text_column
from fl_core.data.columns import Fields, Numbers, Roles, dataset_of, roles_of
from fl_core.data.partition import Partition
from fl_core.data.selection import Selection, Split
from fl_core.errors import DataError
from fl_core.program.extras import need


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
    roles = roles_of(file, text.columns, label, key, drop, f"check delimiter = {delimiter!r}")
    fields = _read_text_fast(text, roles, classes) or _read_text_carefully(text, label, key, drop, classes)
    return dataset_of(file, fields, classes, regression, selection)


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
            roles = roles_of(file, columns, label, key, drop, "name another file")
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

    fields = Fields([columns[i] for i in roles.inputs], len(table), lambda i: numbers(roles.inputs[i]))
    fields.label_name = columns[roles.label]
    fields.label = text(roles.label) if classes is not None else numbers(roles.label)
    fields.key = None if roles.key is None else text(roles.key)
    return dataset_of(file, fields, classes, regression, selection)


def _read_text_fast(text: TextTable, roles: Roles, classes: Sequence[str] | None) -> Fields | None:
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
    fields = Fields([text.columns[i] for i in roles.inputs], len(numbers), lambda i: numbers[str(roles.inputs[i])])
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
) -> Fields:
    rows, lines = text.rows()
    roles = roles_of(text.file, text.columns, label, key, drop, f"check delimiter = {text.delimiter!r}")
    fields = Fields([text.columns[i] for i in roles.inputs], len(rows), lambda i: numbers(roles.inputs[i]), lines=lines)

    def numbers(column: int) -> Numbers:
        return text.numbers(rows, lines, column)

    fields.label_name = text.columns[roles.label]
    fields.label = text_column(rows, roles.label) if classes is not None else numbers(roles.label)
    fields.key = None if roles.key is None else text_column(rows, roles.key)
    return fields
