"""The events that a coordinator writes into its campaign's log: what it has decided, as records.

On the wire an event is a ``CampaignEvent`` whose body is the map of the record that its ``kind`` names. The order of a
record's attributes is that of the map's keys.

=============  ===========================================================================
kind           record
=============  ===========================================================================
opened         ``Opened``: the first event of all
issued         ``Issued``: new tasks
reissued       ``Reissued``: an attempt is given up
evaluating     ``Evaluating``: what the model is now is going to be scored
evaluated      ``Evaluated``: a version's scores
paused         ``Paused``; with the operator's request, like the next three
resumed        ``Resumed``
interrupted    ``Interrupted``
stopped        ``Stopped``
readmitted     ``Readmitted``: an update taken back out of quarantine
merge_due      ``MergeDue``: what waits in the buffer has waited for long enough
clock          ``ClockSet``: the server's clock was set
revoked        ``Revoked``: certificates that are good no more
refused        ``RequestRefused``: what somebody asked for in an operator's name is not done
expired        nothing: an earlier release wrote it, and it says nothing any more
=============  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from fl_core.errors import Reason, RejectedUpdate
from fl_core.wire.checks import (
    MAX_EVENT_ITEMS,
    are_short_names,
    is_count,
    is_event_body,
    is_identifier,
    is_one_of,
    is_positive,
)
from fl_core.wire.mapped import BadMap, Mapped, are_names, is_name, is_number, optional, or_none
from fl_core.wire.record import Record, checked
from fl_core.wire.signed import are_certificates, is_certificate

EventKind = Literal[
    "opened",
    "issued",
    "reissued",
    "expired",
    "paused",
    "resumed",
    "interrupted",
    "stopped",
    "evaluating",
    "evaluated",
    "readmitted",
    "merge_due",
    "clock",
    "revoked",
    "refused",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignEvent(Record):
    """A decision of the coordinator, written to the log so that a replay takes it at the same place.

    Attributes:
        sequence: 1, 2, 3, ... per campaign; a forged or repeated event falls out of the sequence.
        body: the map of the record that ``kind`` names; ``event_of`` reads it.
    """

    max_bytes: ClassVar[int] = 16 * 2**20
    max_items: ClassVar[int] = MAX_EVENT_ITEMS

    campaign: str = checked(is_identifier)
    sequence: int = checked(is_positive)
    kind: str = checked(is_one_of(*EventKind.__args__))  # type: ignore[attr-defined]
    body: Mapping[str, Any] = checked(is_event_body)


def _are_metrics(value: Any) -> bool:
    return isinstance(value, dict) and are_short_names(value) and all(map(or_none(is_number), value.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Mapped):
    """The campaign begins.

    Attributes:
        spec, layout: digests of the spec and of the model's layout.
        authority: the certificate of the authority whose devices take part, DER; None takes updates of anybody.
        keepers: the certificates of those who open sums of masked updates, DER; None where updates have no masks.
    """

    kind: ClassVar[str] = "opened"

    spec: str = checked(is_name)
    layout: str = checked(is_name)
    authority: bytes | None = optional(is_certificate)
    keepers: tuple[bytes, ...] | None = optional(are_certificates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued(Mapped):
    """New tasks, numbered on from the last one.

    Attributes:
        queues: one name per task.
    """

    kind: ClassVar[str] = "issued"

    queues: tuple[str, ...] = checked(are_names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reissued(Mapped):
    """An attempt is given up, unless it was answered first; the task goes out again, or ends.

    Attributes:
        task: its number.
        attempt: the one that is given up.
        queue: where the next one goes.
        reason: ``lost``, ``deadline``, ``no_answer``, ``no_worker``, ``payload_lost``.
    """

    kind: ClassVar[str] = "reissued"

    task: int = checked(is_count)
    attempt: int = checked(is_count)
    queue: str = checked(is_identifier)
    reason: str = checked(is_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluating(Mapped):
    """What the model is now is going to be scored, and may be what is delivered."""

    kind: ClassVar[str] = "evaluating"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated(Mapped):
    """A version's scores, as they came: a number may be NaN or infinite. An earlier release had accuracy alone.

    Attributes:
        version: the one that was scored.
        loss: mean loss.
        metrics: by name, None where one could not be had.
        num_examples: that it was scored on.
        is_of_old: an earlier release wrote it, ``accuracy`` in the place of ``metrics``.
    """

    kind: ClassVar[str] = "evaluated"

    version: int = checked(is_count)
    loss: float = checked(is_number)
    metrics: Mapping[str, float | None] = checked(_are_metrics)
    num_examples: int = checked(is_count)
    is_of_old: bool = False

    @classmethod
    def from_map(cls, found: Mapping[str, Any]) -> Self:
        """The inverse of ``to_map``.

        Raises:
            BadMap: it is none.
        """
        if "metrics" in found:
            return super(Evaluated, cls).from_map(found)
        metrics = {"accuracy": found.get("accuracy")}
        return replace(super(Evaluated, cls).from_map({"num_examples": 0, **found, "metrics": metrics}), is_of_old=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(Mapped):
    """No new tasks from here on.

    Attributes:
        control: position of the operator's request; empty where none asked.
        operator, nonce: who has signed it, and what was drawn for it; None where requests need no signature.
    """

    kind: ClassVar[str] = "paused"

    control: str = optional(is_name, "")
    operator: str | None = optional(is_name)
    nonce: str | None = optional(is_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Mapped):
    """A paused or interrupted campaign goes on.

    Attributes:
        control, operator, nonce: as of ``Paused``.
    """

    kind: ClassVar[str] = "resumed"

    control: str = optional(is_name, "")
    operator: str | None = optional(is_name)
    nonce: str | None = optional(is_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted(Mapped):
    """This coordinator ends; the campaign can be resumed.

    Attributes:
        control: as of ``Paused``.
    """

    kind: ClassVar[str] = "interrupted"

    control: str = optional(is_name, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Mapped):
    """The campaign is over.

    Attributes:
        reason: ``asked``, ``privacy`` (no device may contribute any more), or the condition under ``[stop]`` that was
            met.
        control, operator, nonce: as of ``Paused``.
    """

    kind: ClassVar[str] = "stopped"

    reason: str = checked(is_name)
    control: str = optional(is_name, "")
    operator: str | None = optional(is_name)
    nonce: str | None = optional(is_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readmitted(Mapped):
    """An operator takes a refused update back out of quarantine; task 0 where it was not there any more.

    Attributes:
        control, operator, nonce: as of ``Paused``.
        task: number of the task that it ended.
        reason: of its rejection.
        header, payload: as they came.
    """

    kind: ClassVar[str] = "readmitted"

    control: str = optional(is_name, "")
    task: int = checked(is_count)
    reason: str = checked(is_name)
    header: bytes = checked(lambda value: isinstance(value, bytes))
    payload: bytes = checked(lambda value: isinstance(value, bytes))
    operator: str | None = optional(is_name)
    nonce: str | None = optional(is_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeDue(Mapped):
    """What waits in the buffer is merged.

    Attributes:
        version: if it still is the newest.
    """

    kind: ClassVar[str] = "merge_due"

    version: int = checked(is_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSet(Mapped):
    """The server's clock was set (``fl_core/broker/clock.py``).

    Attributes:
        shift_ms: to be added to the positions' times from here on; may be below 0.
    """

    kind: ClassVar[str] = "clock"

    shift_ms: int = checked(lambda value: type(value) is int)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked(Mapped):
    """What the campaign's authority has taken back; a list with a lower number than one before says nothing.

    Attributes:
        number: of the authority's list.
        serials: of the certificates, hex.
    """

    kind: ClassVar[str] = "revoked"

    number: int = checked(is_count)
    serials: tuple[str, ...] = checked(are_names)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused(Mapped):
    """What somebody asked for in an operator's name is not done.

    Attributes:
        control: as of ``Paused``.
        request: what was asked for; empty where it cannot be read.
        reason: one word.
        detail: one sentence.
    """

    kind: ClassVar[str] = "refused"

    control: str = checked(is_name)
    request: str = checked(is_name)
    reason: str = checked(is_name)
    detail: str = checked(is_name)


Event = (
    Opened
    | Issued
    | Reissued
    | Evaluating
    | Evaluated
    | Paused
    | Resumed
    | Interrupted
    | Stopped
    | Readmitted
    | MergeDue
    | ClockSet
    | Revoked
    | RequestRefused
)
ANSWERS = (Paused, Resumed, Interrupted, Stopped, Readmitted, RequestRefused)
"""Those that may answer an operator's request, whose position they have in ``control``."""
_RECORDS: Mapping[str, type[Event]] = {
    record.kind: record
    for record in (
        Opened, Issued, Reissued, Evaluating, Evaluated, Paused, Resumed, Interrupted, Stopped, Readmitted, MergeDue,
        ClockSet, Revoked, RequestRefused,
    )
}  # fmt: skip


def event_of(signed: CampaignEvent) -> Event | None:
    """What was decided; None for what an earlier release wrote and that says nothing any more.

    Raises:
        RejectedUpdate: the body has not the form of its kind (malformed): another release wrote it.
    """
    if (record := _RECORDS.get(signed.kind)) is None:
        return None
    try:
        return record.from_map(signed.body)
    except BadMap as error:
        raise RejectedUpdate(Reason.MALFORMED, f"an event {error}") from None
