"""A campaign's history: what became of its updates, line by line, in the order of its log.

``history.jsonl`` in the run's folder holds one JSON map per line. ``kind`` says which of the records below it is, the
other keys are the record's attributes, in their order. All lines have ``seconds``: since the campaign was opened.

===========  ================================================================
kind         record
===========  ================================================================
merge        ``MergeLine``: admitted updates became a version
evaluation   ``EvaluationLine``: a version was scored
rejection    ``RejectionLine``: an update was refused, or a task given up
reissue      ``ReissueLine``: a task was given out again
rollback     ``RollbackLine``: the model had diverged and was taken back
phase        ``PhaseLine``: paused, or running again
request      ``RequestLine``: an operator's request that was refused
end          ``EndLine``: over, or interrupted
===========  ================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from fl_core.wire.checks import is_count, is_finite, is_identifier, is_text
from fl_core.wire.line import Line
from fl_core.wire.mapped import (
    BadMap,
    are_counts,
    are_names,
    are_numbers,
    finite,
    is_name,
    is_number,
    optional,
    or_none,
)
from fl_core.wire.record import brief, checked

MAX_METRICS = 64


def _are_metrics(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_METRICS
        and all(is_identifier(name) and (each is None or is_number(each)) for name, each in value.items())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeLine(Line):
    """Updates that became a version; ``staleness``, ``weights``, ``workers`` and ``tasks`` have one entry for each.

    Attributes:
        version: the new one.
        merged: updates merged so far, these among them.
        staleness: how many versions each was behind.
        weights: its staleness weight, in (0, 1], to six digits.
        workers: who sent it.
        tasks: number of the task that it answered.
        epsilon: with central privacy, what the device that has spent most has spent with this merge.
    """

    kind: ClassVar[str] = "merge"

    version: int = checked(is_count)
    merged: int = checked(is_count)
    staleness: tuple[int, ...] = checked(are_counts)
    weights: tuple[float, ...] = checked(are_numbers)
    workers: tuple[str, ...] = checked(are_names)
    tasks: tuple[int, ...] = checked(are_counts)
    epsilon: float | None = optional(is_finite)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationLine(Line):
    """A version's scores on held-out data; a number that could not be had is None.

    On the wire the key ``accuracy`` repeats that metric for readers of an earlier release, whose own lines have it in
    the place of ``metrics``.

    Attributes:
        version: the one that was scored.
        merged: updates merged when the scores arrived.
        loss: mean loss.
        metrics: by name, those that the spec names first come first.
        is_of_old: an earlier release scored it.
    """

    kind: ClassVar[str] = "evaluation"

    version: int = checked(is_count)
    merged: int = checked(is_count)
    loss: float | None = checked(or_none(is_number))
    metrics: Mapping[str, float | None] = checked(_are_metrics)
    is_of_old: bool = False

    @property
    def scores(self) -> dict[str, float | None]:
        """Metrics by name, and the loss as the last of them."""
        return {**self.metrics, "loss": self.loss}

    def to_map(self) -> dict[str, Any]:
        """Plain types."""
        row: dict[str, Any] = {
            "kind": self.kind,
            "seconds": self.seconds,
            "version": self.version,
            "merged": self.merged,
            "loss": self.loss,
            "accuracy": self.metrics.get("accuracy"),
        }
        return row if self.is_of_old else {**row, "metrics": dict(self.metrics)}

    @classmethod
    def from_map(cls, found: Mapping[str, Any]) -> Self:
        """The inverse.

        Raises:
            BadMap: it is none.
        """
        is_of_old = "metrics" not in found
        metrics = {"accuracy": found.get("accuracy")} if is_of_old else found["metrics"]
        line = super(EvaluationLine, cls).from_map({**found, "metrics": metrics})
        metrics = {name: finite(value) for name, value in metrics.items()}
        return replace(line, loss=finite(line.loss), metrics=metrics, is_of_old=is_of_old)


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionLine(Line):
    """An update that was refused; or a task whose last attempt failed on the device, which has a ``detail``.

    Attributes:
        reason: ``fl_core.errors.Reason``.
        worker, task: who sent it for which task (its id); None where it could not be read. Of one that is not signed by
            its sender, the worker is whoever's certificate was beside it.
        detail: the last line of what the device said.
    """

    kind: ClassVar[str] = "rejection"

    reason: str = checked(is_name)
    worker: str | None = checked(or_none(is_name))
    task: str | None = checked(or_none(is_name))
    detail: str | None = optional(is_text)

    def to_map(self) -> dict[str, Any]:
        """Plain types; a detail stands with who said it."""
        row = {"kind": self.kind, "seconds": self.seconds, "reason": self.reason}
        if self.detail is None:
            return {**row, "worker": self.worker, "task": self.task}
        return {**row, "task": self.task, "worker": self.worker, "detail": self.detail}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReissueLine(Line):
    """A task that was given out again.

    Attributes:
        task: its number.
        attempt: the new one, from 2 on.
        reason: ``lost``, ``deadline``, ``no_answer``, ``no_worker``, ``payload_lost``, ``failed``, ``handed_back``,
            ``budget_spent``.
        worker, detail: who said what, where a device did.
    """

    kind: ClassVar[str] = "reissue"

    task: int = checked(is_count)
    attempt: int = checked(is_count)
    reason: str = checked(is_name)
    worker: str | None = optional(is_name)
    detail: str | None = optional(is_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackLine(Line):
    """The model had diverged: the campaign goes on from the last good parameters.

    Attributes:
        version: the new one, which has them.
        good_version: the one that they come from.
        rate_factor: what the server's learning rate is multiplied by from here on.
    """

    kind: ClassVar[str] = "rollback"

    version: int = checked(is_count)
    good_version: int = checked(is_count)
    rate_factor: float = checked(is_finite)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseLine(Line):
    """The campaign was paused, or goes on.

    Attributes:
        state: ``paused`` or ``running``.
    """

    kind: ClassVar[str] = "phase"

    state: str = checked(is_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndLine(Line):
    """The campaign is over, or interrupted: then a ``PhaseLine`` follows when it is resumed.

    Attributes:
        state: ``finished``, ``stopped`` or ``interrupted``.
        reason: the condition that was met, or why it was ended.
    """

    kind: ClassVar[str] = "end"

    state: str = checked(is_name)
    reason: str = checked(is_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLine(Line):
    """What somebody asked for in an operator's name was not done.

    Attributes:
        request: ``pause``, ``resume``, ``stop`` or ``readmit``; empty where it could not be read.
        reason: ``fl_core.errors.Reason``, or ``replayed``.
        detail: one sentence.
    """

    kind: ClassVar[str] = "request"

    request: str = checked(is_name)
    reason: str = checked(is_name)
    detail: str = checked(is_text)


HistoryLine = (
    MergeLine | EvaluationLine | RejectionLine | ReissueLine | RollbackLine | PhaseLine | EndLine | RequestLine
)
_RECORDS: Mapping[str, type[HistoryLine]] = {
    record.kind: record
    for record in (MergeLine, EvaluationLine, RejectionLine, ReissueLine, RollbackLine, PhaseLine, EndLine, RequestLine)
}


def history_line(found: object) -> HistoryLine:
    """A map as the record of its kind.

    Raises:
        BadMap: it is no line of a history.
    """
    kind = found.get("kind") if isinstance(found, dict) else None
    record = _RECORDS.get(kind) if isinstance(kind, str) else None
    if record is None:
        raise BadMap(f"no line of a history: {brief.repr(found)}")
    return record.from_map(found)  # type: ignore[arg-type]
