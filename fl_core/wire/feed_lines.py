"""The lines of a campaign's feed: its course as monitors see it, folded so that their number stays bounded.

Lines that people read one by one (evaluations, phases, re-issues, rollbacks, refused requests, ends; workers,
coordinators) go as they are, the former as in ``fl_core/wire/history.py``. Merges and rejections, of which there may be
hundreds a second, are folded into one line of each kind per entry.

===========  ==========================================================================
kind         record
===========  ==========================================================================
merges       ``MergesLine``
rejections   ``RejectionsLine``
worker       ``WorkerLine``: it joined, was lost (it fell silent), or left (said goodbye)
coordinator  ``CoordinatorLine``: launched, resumed, or took over as a standby
left_out     ``LeftOutLine``: more lines than an entry takes
===========  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from fl_core.wire.checks import is_count, is_identifier
from fl_core.wire.history import EndLine, EvaluationLine, PhaseLine, ReissueLine, RequestLine, RollbackLine
from fl_core.wire.line import Line
from fl_core.wire.mapped import BadMap, is_name, is_number, optional
from fl_core.wire.record import brief, checked


def _are_pairs(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and all(map(is_count, pair)) for pair in value
    )


def _are_contributions(value: Any) -> bool:
    return isinstance(value, dict) and all(
        is_identifier(name) and isinstance(row, (list, tuple)) and len(row) == 3 and all(map(is_number, row))
        for name, row in value.items()
    )


def _are_counters(value: Any) -> bool:
    return isinstance(value, dict) and all(is_name(name) and is_count(count) for name, count in value.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class MergesLine(Line):
    """Some merges, one after the other.

    Attributes:
        version, merged: as of the last of them.
        updates, merges: how many.
        staleness: (value, count) of their updates, the lowest value first.
        workers: by name (updates, sum of staleness, sum of training seconds); the busiest of them.
    """

    kind: ClassVar[str] = "merges"

    version: int = checked(is_count)
    merged: int = checked(is_count)
    updates: int = checked(is_count)
    merges: int = checked(is_count)
    staleness: tuple[tuple[int, int], ...] = checked(_are_pairs)
    workers: Mapping[str, tuple[float, float, float]] = checked(_are_contributions)

    @classmethod
    def from_map(cls, found: Mapping[str, Any]) -> Self:
        """The inverse of ``to_map``.

        Raises:
            BadMap: it is none.
        """
        line = super(MergesLine, cls).from_map(found)
        workers = {name: (row[0], row[1], row[2]) for name, row in line.workers.items()}
        return replace(line, staleness=tuple((pair[0], pair[1]) for pair in line.staleness), workers=workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionsLine(Line):
    """Some rejections.

    Attributes:
        reasons: reason -> count.
        workers: name -> count; the empty name is that of senders whom nobody knows.
        untrusted: the same, of those alone that were not signed by their sender (``fl_core.errors.UNTRUSTED``); by the
            name in the certificate that was beside them. None where there was none.
    """

    kind: ClassVar[str] = "rejections"

    reasons: Mapping[str, int] = checked(_are_counters)
    workers: Mapping[str, int] = checked(_are_counters)
    untrusted: Mapping[str, int] | None = optional(_are_counters)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLine(Line):
    """A worker of the campaign's queues came or went.

    Attributes:
        event: ``joined``, ``lost`` or ``left``.
    """

    kind: ClassVar[str] = "worker"

    worker: str = checked(is_identifier)
    event: str = checked(is_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorLine(Line):
    """Who leads the campaign from here on.

    Attributes:
        event: ``launched``, ``resumed`` (after an interruption or a crash), ``took_over`` (a standby, from a
            coordinator that had lived until then).
        holder, fence: of the lease.
        predecessor: whom a standby took over from.
    """

    kind: ClassVar[str] = "coordinator"

    event: str = checked(is_name)
    holder: str = checked(is_name)
    fence: int = checked(is_count)
    predecessor: str | None = optional(is_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutLine(Line):
    """There was more to tell than an entry takes.

    Attributes:
        lines: how many more.
    """

    kind: ClassVar[str] = "left_out"

    lines: int = checked(is_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownLine(Line):
    """A line of a later release: nothing is known of it but that it is there.

    Attributes:
        name: its kind.
    """

    name: str = checked(is_name)

    def to_map(self) -> dict[str, Any]:
        """Plain types."""
        return {"kind": self.name, "seconds": self.seconds}


Event = (
    EvaluationLine
    | ReissueLine
    | RollbackLine
    | PhaseLine
    | RequestLine
    | EndLine
    | WorkerLine
    | CoordinatorLine
    | LeftOutLine
)
FeedLine = MergesLine | RejectionsLine | Event | UnknownLine
_RECORDS: Mapping[str, type[FeedLine]] = {
    record.kind: record
    for record in (
        MergesLine, RejectionsLine, WorkerLine, CoordinatorLine, LeftOutLine,
        EvaluationLine, ReissueLine, RollbackLine, PhaseLine, RequestLine, EndLine,
    )
}  # fmt: skip


def feed_line(found: object) -> FeedLine:
    """A map as the record of its kind.

    Raises:
        BadMap: no coordinator wrote it.
    """
    kind = found.get("kind") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(kind, str):
        raise BadMap(f"no line of a feed: {brief.repr(found)}")
    record = _RECORDS.get(kind)
    return UnknownLine.from_map({**found, "name": kind}) if record is None else record.from_map(found)
