"""The effects of an entry of the log: what the rest of the coordinator has to do after it was applied."""

from __future__ import annotations

from dataclasses import dataclass, field

from coordinator.campaign.ledger import OpenTask
from fl_core.aggregation import Contribution, Merge
from fl_core.errors import RejectedUpdate
from fl_core.privacy.spend import Spend
from fl_core.wire.history import HistoryLine
from fl_core.wire.messages import ModelUpdate, TaskReport


@dataclass(frozen=True, slots=True)
class Admitted:
    """An update that passed every check.

    Attributes:
        evidence: what stands for it in the transcript of a private campaign; else empty.
    """

    task: OpenTask
    update: ModelUpdate
    contribution: Contribution
    evidence: bytes = b""


class Refused(RejectedUpdate):
    """A rejection, with what is known of its sender.

    Attributes:
        task: the open task that it ends, None if it answers none.
        update: the header, None if it could not be read.
    """

    def __init__(self, cause: RejectedUpdate, task: OpenTask | None, update: ModelUpdate | None) -> None:
        super().__init__(cause.reason, cause.detail, cause.signer)
        self.task = task
        self.update = update


class LostPayload(Exception):
    """An update for an open task whose payload is lost (``coordinator/outgoing/payloads.py``).

    Attributes:
        task: the open task.
        attempt: the one that the update answers.
        blob: the payload's name.
    """

    def __init__(self, task: OpenTask, attempt: int, blob: str) -> None:
        super().__init__(blob)
        self.task = task
        self.attempt = attempt
        self.blob = blob


@dataclass(slots=True)
class Effects:
    """What applying one entry means outside: at the broker, in the history, in the log that people read.

    Attributes:
        moment_ms: when the entry was written; campaign time.
        seconds: the same, since the campaign was opened.
        closed: numbers of tasks that nobody waits for any more.
        reopened: tasks whose next attempt has to be published.
        history: lines for ``history.jsonl``.
        merges: what was merged.
        spends: what that has cost devices of their privacy budgets.
        refusals: rejections, with the entry they came from.
        failure: a report of a device whose training failed.
        handed_back: a report of a device that gives a task back, with its reason.
        blob: the payload's blob, to be dropped once a checkpoint covers the entry.
        admitted: the entry was an update, and it passed.
        lost_payload: the entry was an update whose payload is lost; nothing else has changed.
        unopened: why a sum of masked updates came to nothing, in one sentence.
        pinned: the version that is to be evaluated now, before the model moves on.
        fruitless: for long nothing but failures has come in, in one sentence.
    """

    moment_ms: int
    seconds: float
    closed: list[int] = field(default_factory=list)
    reopened: list[OpenTask] = field(default_factory=list)
    history: list[HistoryLine] = field(default_factory=list)
    merges: list[Merge] = field(default_factory=list)
    spends: list[Spend] = field(default_factory=list)
    refusals: list[Refused] = field(default_factory=list)
    failure: TaskReport | None = None
    handed_back: TaskReport | None = None
    blob: tuple[str, int] | None = None
    admitted: Admitted | None = None
    lost_payload: LostPayload | None = None
    unopened: str = ""
    pinned: int | None = None
    fruitless: str = ""
