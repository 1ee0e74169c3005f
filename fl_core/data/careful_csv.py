"""A text table field by field: slower than a library, and able to say which field on which line is wrong."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from csv import Error as CsvError
from csv import reader
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fl_core.errors import DataError

_TRUTH = {"true": 1.0, "false": 0.0}
_COMMA_NUMBER = re.compile(r"\s*[+-]?\d+(,\d+)+\s*")


class TextTable:
    """A delimited text file.

    Args:
        file: the path.
        header: the first line names the columns.
        delimiter: between fields.
        decimal: the decimal mark, ``"."`` or ``","``.
        encoding: of the text; a byte order mark of UTF-8 is left out.

    Attributes:
        columns: the columns' names; their indices where there is no header.
        num_head_lines: lines of the file before the first example.

    Raises:
        DataError: the file cannot be read, or its first line is not what ``header`` says.
    """

    def __init__(self, file: Path, header: bool, delimiter: str, decimal: str, encoding: str) -> None:
        if decimal not in (".", ",") or decimal == delimiter:
            raise DataError(f"decimal = {decimal!r} is not accepted; use '.' or ',', and another delimiter than it.")
        self.file, self.delimiter, self.decimal = file, delimiter, decimal
        self.encoding = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
        self._header = header
        rows, lines = self._read(only_first=True)
        if not rows:
            raise DataError(f"{file} holds no examples; fill it or name another file.")
        first = rows[0]
        counted = [name.strip() for name in first] == [str(i) for i in range(len(first))]  # as pandas names columns
        if header and not counted and len(first) > 1 and all(self._is_number(name) for name in first):
            raise DataError(
                f"{file}: the first line holds numbers alone, and header = true takes it for the columns' names; set "
                "header = false if it is an example, or name the columns."
            )
        self.columns = [name.strip() for name in first] if header else [str(i) for i in range(len(first))]
        self.num_head_lines = lines[0] if header else lines[0] - 1

    def rows(self) -> tuple[list[list[str]], list[int]]:
        """The rows that are not blank, and the line in the file on which each ends, from 1.

        An unnamed last column without a value, of a delimiter at each line's end, is left out of ``columns`` too.

        Raises:
            DataError: a line has more or fewer fields than the first.
        """
        rows, lines = self._read()
        if self._header:
            rows, lines = rows[1:], lines[1:]
        for row, line in zip(rows, lines, strict=True):
            if len(row) != len(self.columns):
                raise DataError(
                    f"{self.file}, line {line}: {len(row)} fields where the first line has {len(self.columns)}; make "
                    "them equal."
                )
        if self._header and len(self.columns) > 1 and not self.columns[-1] and not any(row[-1].strip() for row in rows):
            self.columns = self.columns[:-1]
            rows = [row[:-1] for row in rows]
        return rows, lines

    def read_columns(self, wanted: Collection[int], kind: str) -> npt.NDArray[Any]:
        """Some columns, by numpy's own reader, with the lines of all columns checked for their number.

        Args:
            wanted: the columns' indices.
            kind: numpy's, ``"f8"`` or ``"O"`` for text.

        Returns:
            A structured array ``(rows,)`` with a field for each column, named by its index; those that are not wanted
            hold nothing of use.

        Raises:
            ValueError: a line has more or fewer fields than the first, a field is no number or goes on in the next
                line, or there is no line.
            OSError: the file cannot be read.
        """
        kinds = [(str(i), kind if i in wanted else "U1") for i in range(len(self.columns))]
        with self._open() as stream, warnings.catch_warnings():
            warnings.simplefilter("error")  # of a file without examples
            try:
                table: npt.NDArray[Any] = np.loadtxt(
                    _plain_lines(stream, comma=kind == "f8" and self.decimal == ","), dtype=kinds,
                    delimiter=self.delimiter, skiprows=self.num_head_lines, comments=None, quotechar='"', ndmin=1,
                )  # fmt: skip
            except UserWarning as error:
                raise ValueError(str(error)) from None
        return table

    def numbers(self, rows: list[list[str]], lines: list[int], column: int) -> npt.NDArray[np.float64]:
        """A column as float64 ``(rows,)``; true and false are 1 and 0.

        Raises:
            DataError: a field is not a finite number.
        """
        values = np.array([self._number(row[column]) for row in rows], np.float64)
        with np.errstate(over="ignore"):
            wrong = np.flatnonzero(~np.isfinite(values.astype(np.float32)))
        if len(wrong):
            field, line = rows[wrong[0]][column], lines[wrong[0]]
            raise DataError(
                f"{self.file}, line {line}, column {self.columns[column]!r}: {field!r} is not a finite number; "
                f"{self._remedy(field, line)}."
            )
        return values

    def _remedy(self, field: str, line: int) -> str:
        if not self._header and line == self.num_head_lines + 1 and field.strip():
            return "set header = true if the first line names the columns, or correct it"
        if _COMMA_NUMBER.fullmatch(field):
            return "set decimal = ',' if that is its decimal mark, or write numbers without separators of thousands"
        if not field.strip():
            return "fill it in, or remove the line"
        return "correct it, remove the line, or leave the column out with drop"

    def _number(self, field: str) -> float:
        try:
            return float(field if self.decimal == "." else field.replace(",", "."))
        except ValueError:
            return _TRUTH.get(field.strip().lower(), float("nan"))

    def _is_number(self, field: str) -> bool:
        try:
            float(field if self.decimal == "." else field.replace(",", "."))
        except ValueError:
            return False
        return True

    def _read(self, only_first: bool = False) -> tuple[list[list[str]], list[int]]:
        rows: list[list[str]] = []
        lines: list[int] = []
        try:
            with self._open() as stream:
                table = reader(stream, delimiter=self.delimiter, strict=True, skipinitialspace=True)
                for row in table:
                    if len(row) > 1 or (row and row[0].strip()):
                        rows.append(row)
                        lines.append(table.line_num)
                        if only_first:
                            break
        except OSError as error:
            raise DataError(f"{self.file} cannot be read ({error.strerror}); give the path of a .csv file.") from error
        except (UnicodeError, CsvError) as error:
            raise DataError(
                f"{self.file} is not a {self.encoding.removesuffix('-sig').upper()} .csv file: {error}; name its "
                "encoding, such as encoding = 'latin-1' or 'utf-16', or save it as UTF-8."
            ) from error
        except LookupError as error:
            raise DataError(f"encoding = {self.encoding!r} is not known; use 'utf-8' or 'latin-1'.") from error
        except TypeError as error:
            raise DataError(f"delimiter = {self.delimiter!r} is not accepted; use one character.") from error
        return rows, lines

    def _open(self) -> IO[str]:
        return self.file.open(newline="", encoding=self.encoding)


def _plain_lines(stream: IO[str], *, comma: bool) -> Iterator[str]:
    """Lines as numpy takes them; it would take a quote that is never closed for one that ends with the file."""
    for line in stream:
        if line.count('"') % 2:
            raise ValueError("a quoted field goes on in the next line")
        yield line.replace(",", ".") if comma else line


def text_column(rows: Sequence[Sequence[str]], column: int) -> npt.NDArray[Any]:
    """A column's fields without the blanks around them."""
    return np.array([row[column].strip() for row in rows])
