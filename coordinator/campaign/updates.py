"""Updates from devices: admitted and merged, or refused; also one that an operator takes back out of quarantine."""

from __future__ import annotations

from coordinator.campaign.admission import Admission
from coordinator.campaign.attempts import Attempts
from coordinator.campaign.contributions import Contributions
from coordinator.campaign.course import Course
from coordinator.campaign.effects import Effects, LostPayload, Refused
from coordinator.campaign.judging.guard import Guard
from coordinator.campaign.ledger import Ledger
from coordinator.campaign.merging import Merging
from fl_core.aggregation import Contribution
from fl_core.errors import RejectedUpdate
from fl_core.wire.events import Readmitted
from fl_core.wire.log_entry import LogEntry


class Updates:
    """Takes them in.

    Args:
        admission: the checks that they pass.
        ledger, contributions, merging, course, attempts: the campaign's.
    """

    def __init__(
        self,
        admission: Admission,
        ledger: Ledger,
        contributions: Contributions,
        merging: Merging,
        course: Course,
        attempts: Attempts,
    ) -> None:
        self._admission = admission
        self._ledger = ledger
        self._contributions = contributions
        self._merging = merging
        self._course = course
        self._attempts = attempts

    def take(self, entry: LogEntry, guard: Guard, effects: Effects) -> None:
        """Admit an update, or refuse it.

        Args:
            guard: knows which base versions have diverged.

        Raises:
            BrokerUnavailable: its payload could not be read; nothing has changed.
        """
        try:
            merging = self._merging
            admitted = self._admission.admit(
                entry, self._ledger, merging.strategy, guard, merging.privacy, merging.masked
            )
        except Refused as refused:
            self.refuse(refused, effects)
            self._course.close_cohort(effects)
            return
        except LostPayload as found:
            effects.lost_payload = found
            return
        effects.admitted = admitted
        update = admitted.update
        self._contributions.admit(update, admitted.contribution.metrics)
        effects.closed.append(admitted.task.number)
        if update.blob:
            effects.blob = (update.blob, update.payload_bytes)
        self._ledger.buffer(admitted.task)
        self._merge(update.worker, admitted.contribution, effects, admitted.evidence)

    def readmit(self, event: Readmitted, effects: Effects) -> None:
        """Take one out of quarantine, if its task can still be readmitted."""
        merging = self._merging
        is_open = merging.privacy is None and merging.masked is None
        if not is_open or not self._ledger.can_readmit(event.task, event.reason):
            return
        try:
            update, contribution = self._admission.readmit(
                event.task, event.header, event.payload, self._merging.strategy, effects.moment_ms
            )
        except RejectedUpdate as error:
            effects.refusals.append(Refused(error, None, None))
            return
        self._ledger.readmit(event.task, event.reason)
        self._merge(update.worker, contribution, effects)

    def _merge(self, worker: str, contribution: Contribution, effects: Effects, evidence: bytes = b"") -> None:
        self._course.fruitless.end()
        self._merging.offer(worker, contribution, effects, evidence)
        self._course.close_cohort(effects)
        self._course.check_limits(effects)

    def refuse(self, cause: RejectedUpdate, effects: Effects) -> None:
        """An entry must not be merged, or cannot even be read."""
        refused = cause if isinstance(cause, Refused) else Refused(cause, None, None)
        update = refused.update
        if update is not None and update.names_own_blob:
            # What it declares is not to be trusted: no more is dropped later than an update can take.
            most = self._admission.max_payload_bytes(self._merging.strategy, update.part)
            effects.blob = (update.blob, min(update.payload_bytes, most))
        self._attempts.refuse(refused, effects)
