"""The events that a coordinator writes into its campaign's log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from fl_core.wire.checks import (
    MAX_EVENT_ITEMS,
    is_event_body,
    is_identifier,
    is_one_of,
    is_positive,
)
from fl_core.wire.record import Record, checked

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
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignEvent(Record):
    """A decision of the coordinator, written to the log so that a replay takes it at the same place.

    Attributes:
        sequence: 1, 2, 3, ... per campaign; a forged or repeated event falls out of the sequence.
        body: what the decision needs, by kind; see ``coordinator/campaign/state.py``.
    """

    max_bytes: ClassVar[int] = 16 * 2**20
    max_items: ClassVar[int] = MAX_EVENT_ITEMS

    campaign: str = checked(is_identifier)
    sequence: int = checked(is_positive)
    kind: str = checked(is_one_of(*EventKind.__args__))  # type: ignore[attr-defined]
    body: Mapping[str, Any] = checked(is_event_body)
