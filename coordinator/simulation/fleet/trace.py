"""Traces: when each device of a real fleet was there, and how fast it was, as a table.

A row is a stretch of time in which a device was there: ``device``, ``start`` and ``end`` in seconds since the
campaign's beginning, and, if there is such a column, ``speed``, the seconds that one example takes it. FedScale's names
of the first three, ``client_id``, ``active`` and ``inactive``, are understood as well (Lai et al., ICML 2022, arXiv
2105.11367).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.simulation.fleet.availability import Traced
from fl_core.errors import SpecError
from fl_core.program.extras import need

MAX_ROWS = 50_000_000
_COLUMNS = {"device": ("device", "client_id"), "start": ("start", "active"), "end": ("end", "inactive")}


@dataclass(frozen=True, slots=True)
class Trace:
    """A fleet's trace.

    Attributes:
        names: of the devices, in the order in which the table first has them.
        available: when each was there.
        speeds: seconds that one example takes each; None where the table does not say.
    """

    names: list[str]
    available: list[Traced]
    speeds: list[float] | None


def read_trace(path: Path) -> Trace:
    """Read a trace, as CSV with a heading or, by its suffix, as Parquet.

    Raises:
        SpecError: it cannot be read, a column is missing, or a row is no stretch of time.
    """
    stretches: dict[str, list[tuple[float, float]]] = {}
    speeds: dict[str, float] = {}
    for number, row in enumerate(_rows(path), start=2):
        if number > MAX_ROWS:
            raise SpecError(f"{path} has more than {MAX_ROWS:,} rows; divide it.")
        name = str(row["device"])
        start, end = _number(row, "start", path, number), _number(row, "end", path, number)
        if end <= start:
            raise SpecError(f"{path}, row {number}: end = {end:g} is not after start = {start:g}.")
        stretches.setdefault(name, []).append((start, end))
        if "speed" in row:
            speeds[name] = _number(row, "speed", path, number)
    if not stretches:
        raise SpecError(f"{path} has no rows; a trace has one for each time that a device was there.")
    available = [_traced(each) for each in stretches.values()]
    return Trace(list(stretches), available, [speeds[name] for name in stretches] if speeds else None)


def _traced(stretches: Iterable[tuple[float, float]]) -> Traced:
    """In rising order; those that touch or overlap are one."""
    starts: list[float] = []
    ends: list[float] = []
    for start, end in sorted(stretches):
        if ends and start <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return Traced(starts, ends)


def _number(row: dict[str, Any], column: str, path: Path, number: int) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < math.inf:
        raise SpecError(f"{path}, row {number}: {column} = {row[column]!r} is no number of seconds from 0 on.")
    return value


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        if path.suffix == ".parquet":
            need("--trace", "pyarrow")
            import pyarrow.parquet as parquet

            file = parquet.ParquetFile(path)
            names = _renamed(file.schema_arrow.names, path)
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    yield {names[column]: value for column, value in row.items() if column in names}
            return
        with path.open(newline="", encoding="utf-8-sig") as lines:
            table = csv.reader(lines)
            heading = [word.strip() for word in next(table, [])]
            names = _renamed(heading, path)
            for cells in table:
                if cells:
                    yield {names[column]: cell for column, cell in zip(heading, cells, strict=False) if column in names}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(f"{path} cannot be read ({reason}); give a CSV or Parquet file.") from error


def _renamed(heading: Sequence[str], path: Path) -> dict[str, str]:
    """The columns that are read, with their names here."""
    names = {"speed": "speed"} if "speed" in heading else {}
    for wanted, known in _COLUMNS.items():
        found = next((name for name in known if name in heading), None)
        if found is None:
            raise SpecError(f"{path} has no column {wanted!r}; it has {', '.join(map(repr, heading)) or 'none'}.")
        names[found] = wanted
    return names
