"""A campaign's state as a pure function of its update log.

Whatever decides the campaign's course is an entry of the log: updates and reports from workers, and the coordinator's
own decisions as events. ``CampaignState.apply`` takes the entries one by one and never looks at a clock, at the broker
or at chance, so a coordinator that died is rebuilt, to the same bit, by applying the log again from a checkpoint.
What an event says is in ``fl_core/wire/events.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from coordinator.campaign.admission import Admission
from coordinator.campaign.attempts import Attempts
from coordinator.campaign.contributions import Contributions
from coordinator.campaign.course import Course, Phase
from coordinator.campaign.effects import Effects
from coordinator.campaign.fruitless import Fruitless
from coordinator.campaign.judging.delivery import Delivery
from coordinator.campaign.judging.evaluations import DELIVERY, GUARD, Evaluations
from coordinator.campaign.judging.guard import Guard
from coordinator.campaign.judging.scores import Scores
from coordinator.campaign.ledger import Ledger, task_number
from coordinator.campaign.masked.answers import Answers
from coordinator.campaign.masked.sums import SUM as MASKED_SUM
from coordinator.campaign.masked.sums import MaskedSums, announced_sum
from coordinator.campaign.merging import Merging
from coordinator.campaign.private.privacy import Privacy
from coordinator.campaign.private.sum import SUM
from coordinator.campaign.signers import Signers
from coordinator.campaign.timeline import Timeline
from coordinator.campaign.updates import Updates
from fl_core.aggregation import Strategy
from fl_core.errors import BrokerUnavailable, InvariantError, Reason, RejectedUpdate
from fl_core.privacy.spend import Spend
from fl_core.spec import CampaignSpec
from fl_core.vectors.layout import Layout
from fl_core.wire.events import (
    ANSWERS,
    CampaignEvent,
    ClockSet,
    Evaluated,
    Evaluating,
    Interrupted,
    Issued,
    MergeDue,
    Opened,
    Paused,
    Readmitted,
    Reissued,
    RequestRefused,
    Resumed,
    Revoked,
    Stopped,
    event_of,
)  # fmt: skip
from fl_core.wire.history import RequestLine
from fl_core.wire.log_entry import LogEntry, is_authentic, order


class CampaignState:
    """Everything that a checkpoint has to hold: reads the log's entries, and has each part take in what concerns it.

    Args:
        campaign, spec, secret: the campaign's own.
        strategy: at version 0, or restored.
        admission: the checks that updates pass.

    Attributes:
        timeline, ledger, contributions, merging, course, evaluations: the parts.
        privacy: noise and budgets; None where the coordinator adds no noise.
        masked: the sums of masked updates; None where updates have no masks.
        keepers: the certificates of those who open them, DER.
        position: the last entry applied.
        sequence: the last event applied.
        control_position: the last operator's request that became an event.
        num_entries: how many were applied.
    """

    def __init__(
        self,
        campaign: str,
        spec: CampaignSpec,
        secret: bytes,
        strategy: Strategy,
        admission: Admission,
        layout: Layout,
    ) -> None:
        self._campaign = campaign
        self._secret = secret
        self._admission = admission
        self.timeline = Timeline()
        self.ledger = Ledger()
        self.contributions = Contributions()
        self.privacy = Privacy.of(campaign, spec, layout)
        self.masked = MaskedSums.of(spec, layout)
        self.merging = Merging(strategy, self.ledger, self.contributions, self.privacy, self.masked)
        self.course = Course(spec, layout, self.timeline, self.ledger, self.merging)
        self.evaluations = Evaluations(spec, layout, self.ledger, self.merging, self.course)
        self._attempts = Attempts(spec.dispatch.max_attempts, self.ledger, self.contributions, self.course)
        self._updates = Updates(admission, self.ledger, self.contributions, self.merging, self.course, self._attempts)
        self._answers = Answers(admission, self.merging, self.course)
        self.keepers: tuple[bytes, ...] = ()
        self.position = "0-0"
        self.sequence = 0
        self.control_position = "0-0"
        self.num_entries = 0
        self._half_applied = ""

    def begin_life(self, secret: bytes) -> None:
        """The log goes on under another secret: what comes under the one before counts for nothing."""
        self._secret = secret
        self._admission.begin_life(secret)

    def charge(self, spends: Iterable[Spend]) -> int:
        """Count releases of other lives that this one's log does not lead to; how many there were.

        It is no entry of the log: a checkpoint has to follow before anything else does.
        """
        if self.privacy is None:
            return 0
        charged = self.privacy.charge(spends)
        if charged and (self.privacy.is_overdrawn or self.masked is not None):
            self.merging.drop()  # in the sum nobody's update can be told apart any more
        return charged

    # -- reading ---------------------------------------------------------------------------------------------------

    @property
    def strategy(self) -> Strategy:
        """With the newest version."""
        return self.merging.strategy

    @property
    def phase(self) -> Phase:
        """Where the campaign is in its life."""
        return self.course.phase

    @property
    def stop_reason(self) -> str:
        """Why it is over, or interrupted; else empty."""
        return self.course.stop_reason

    @property
    def accepts(self) -> bool:
        """Whether updates are still merged: a paused campaign takes late ones, an ended one does not."""
        return self.course.accepts

    @property
    def signers(self) -> Signers:
        """Whose updates count."""
        return self._admission.signers

    @property
    def fruitless(self) -> Fruitless:
        """The present stretch of failures."""
        return self.course.fruitless

    @property
    def scores(self) -> Scores:
        """What evaluations have said so far."""
        return self.evaluations.scores

    @property
    def guard(self) -> Guard:
        """The guard against divergence."""
        return self.evaluations.guard

    @property
    def delivery(self) -> Delivery:
        """Which version is delivered."""
        return self.evaluations.delivery

    def announced(self, entry: LogEntry) -> tuple[str, int] | None:
        """Name and size of the payload that applying this entry will ask for, if any."""
        if not self.accepts or entry.kind == "k":
            return self.blob_of(entry) if self.accepts else None
        return self._admission.announced(entry, self.ledger, self.strategy)

    def blob_of(self, entry: LogEntry) -> tuple[str, int] | None:
        """Name and size of the blob that an entry names; whatever became of its update."""
        if entry.kind == "k":
            return announced_sum(entry, self.strategy.layout.num_parameters)
        return self._admission.blob_of(entry, self.strategy)

    # -- applying --------------------------------------------------------------------------------------------------

    def apply(self, entry: LogEntry) -> Effects:
        """Take one entry in.

        Raises:
            BrokerUnavailable: a payload could not be read; nothing has changed, apply the same entry again.
            UserCodeError: a strategy or a codec of the user's own raised, perhaps in the middle of a merge. The entry
                does not count, and this object is of no use any more: go on from a checkpoint.
        """
        self._verify_whole()
        moment_ms = self.timeline.moment(entry)
        effects = Effects(moment_ms, self.timeline.seconds(moment_ms))
        try:
            match entry.kind:
                case "u":
                    self._updates.take(entry, self.guard, effects)
                case "r":
                    self._apply_report(entry, effects)
                case "k":
                    self._answers.take(entry, effects)
                case "e":
                    self._apply_event(entry, effects)
                case _:
                    self._updates.refuse(RejectedUpdate(Reason.MALFORMED, "the log entry has no known field"), effects)
        except BrokerUnavailable:
            raise
        except BaseException:
            self._half_applied = entry.position
            raise
        self.position = entry.position
        self.num_entries += 1
        return effects

    def _verify_whole(self) -> None:
        if self._half_applied:
            raise InvariantError(f"log entry {self._half_applied} was applied in part; this state must not be kept")

    def _apply_report(self, entry: LogEntry, effects: Effects) -> None:
        try:
            report = self.signers.report(entry)
        except RejectedUpdate as error:
            self._updates.refuse(error, effects)
            return
        number = task_number(self._secret, report.task_id)
        task = None if number is None else self.ledger.open.get(number)
        if report.campaign != self._campaign or task is None or report.attempt != task.attempt:
            return  # answered or re-issued meanwhile: nothing is lost
        self._attempts.take_report(report, task, effects)

    # -- events ----------------------------------------------------------------------------------------------------

    def _apply_event(self, entry: LogEntry, effects: Effects) -> None:
        if not is_authentic(self._secret, entry):
            self._updates.refuse(RejectedUpdate(Reason.MALFORMED, "the event is not signed by a coordinator"), effects)
            return
        try:
            signed = CampaignEvent.from_bytes(entry.header)
            if signed.campaign != self._campaign or signed.sequence != self.sequence + 1:
                return  # a commit that was repeated after an answer was lost on the way: the first one counts
            self.sequence = signed.sequence
            event = event_of(signed)
        except RejectedUpdate as error:  # another release's, under the same secret
            self._updates.refuse(error, effects)
            return
        if isinstance(event, ANSWERS) and event.control:
            self.control_position = max(self.control_position, event.control, key=order)
            self.signers.note_nonce(event)
        course = self.course
        match event:
            case Opened():
                self.signers.open(event)
                self.keepers = event.keepers or ()
                self.timeline.opened_ms = effects.moment_ms
                self.evaluations.begin()
            case Issued(queues=queues):
                self._apply_issued(queues, effects)
            case Reissued():
                self._attempts.give_up(event, effects)
            case Evaluating() if self.accepts:
                self.evaluations.pin(effects)
            case Evaluated():
                self.evaluations.take(event, effects)
            case ClockSet(shift_ms=shift_ms):
                self._apply_clock(shift_ms, entry)
            case Revoked():
                self.signers.take_back(event)
            case MergeDue(version=version):
                course.merge_due(version, effects)
            case Paused():
                course.change_phase(Phase.PAUSED, (Phase.RUNNING,), effects)
            case Resumed():
                course.change_phase(Phase.RUNNING, (Phase.PAUSED, Phase.INTERRUPTED), effects)
            case Readmitted() if self.accepts:
                self._updates.readmit(event, effects)
            case Interrupted() if self.accepts:
                course.end(Phase.INTERRUPTED, "interrupted", effects)
            case Stopped(reason=reason):
                course.end(Phase.STOPPED if reason == "asked" else Phase.FINISHED, reason, effects)
            case RequestRefused(request=request, reason=reason, detail=detail):
                line = RequestLine(seconds=effects.seconds, request=request, reason=reason, detail=detail)
                effects.history.append(line)

    def _apply_issued(self, queues: Sequence[str], effects: Effects) -> None:
        self.ledger.issue(list(queues), effects.moment_ms)
        if not self.accepts:
            effects.closed += self.ledger.cancel_open()  # decided just before the end

    def _apply_clock(self, shift_ms: int, entry: LogEntry) -> None:
        now_ms = self.timeline.correct(shift_ms, entry)
        self.merging.waits_since_ms = min(self.merging.waits_since_ms, now_ms)
        for task in self.ledger.open.values():
            task.issued_ms = min(task.issued_ms, now_ms)

    # -- checkpoint ------------------------------------------------------------------------------------------------

    def export(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All state: arrays by name (views: copy them before the next merge) and plain values."""
        self._verify_whole()
        tensors, strategy_meta = self.strategy.export_state()
        judged_tensors, judged_meta = self.evaluations.export()
        masked_tensors, masked_meta = ({}, None) if self.masked is None else self.masked.export()
        private_tensors, private_meta = ({}, None) if self.privacy is None else self.privacy.export()
        return tensors | judged_tensors | private_tensors | masked_tensors, {
            **({} if masked_meta is None else {"masked": masked_meta, "keepers": list(self.keepers)}),
            **({} if private_meta is None else {"privacy": private_meta}),
            "strategy": strategy_meta,
            "ledger": self.ledger.export(),
            "position": self.position,
            "sequence": self.sequence,
            "control_position": self.control_position,
            "num_entries": self.num_entries,
            **judged_meta,
            **self.timeline.export(),
            **self.course.export(),
            **self.contributions.export(),
            **self.merging.export(),
            **self.signers.export(),
        }

    def restore(self, tensors: dict[str, Any], meta: dict[str, Any]) -> None:
        """The inverse of ``export``.

        Raises:
            CampaignError: the checkpoint is of another strategy or model.
        """
        self.evaluations.restore(tensors, meta)  # first: it says which strategy
        own = {
            name: array for name, array in tensors.items() if not name.startswith((GUARD, DELIVERY, SUM, MASKED_SUM))
        }
        self.strategy.restore_state(own, meta["strategy"])
        if self.masked is not None:
            self.masked.restore(tensors, meta["masked"])
            self.keepers = tuple(meta["keepers"])
        if self.privacy is not None:
            self.privacy.restore(tensors, meta["privacy"])
        self.ledger.restore(meta["ledger"])
        self.timeline.restore(meta)
        self.course.restore(meta)
        self.contributions.restore(meta)
        self.merging.restore(meta)
        self.signers.restore(meta)
        self.position, self.sequence = meta["position"], meta["sequence"]
        self.control_position, self.num_entries = meta["control_position"], meta["num_entries"]
