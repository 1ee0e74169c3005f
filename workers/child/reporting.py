"""What a device tells the coordinator of a task that came to nothing, and what of it stays on the device."""

from __future__ import annotations

import traceback

import structlog

from fl_core.broker.patience import device_outage, patiently
from fl_core.broker.tasks import TaskBroker
from fl_core.errors import BrokerError, DataError, SpecError
from fl_core.program.redaction import redact
from fl_core.user_code import what_was_raised
from fl_core.wire.checks import MAX_DETAIL_CHARACTERS
from fl_core.wire.messages import TaskCall, TaskReport

log = structlog.get_logger()


class Overdue(BaseException):
    """Raised within user code by a signal; it is no ``Exception``, which such code may catch and go on."""


def words_of(error: BaseException) -> tuple[str, str]:
    """Why a task failed, in one sentence, and the traceback where that sentence is not ours; both without passwords."""
    # User code may raise with text that is no valid Unicode; the report must go out all the same.
    why = str(error) if isinstance(error, (SpecError, Overdue)) else f"the training {what_was_raised(error)}"
    why = redact(why.encode("utf-8", "replace").decode())
    # A sentence of ours says it all; others need their traceback.
    text = "" if isinstance(error, SpecError) else traceback.format_exc().encode("utf-8", "replace").decode()
    return why, redact(text)


def quietly(error: BaseException, why: str) -> str:
    """What of it a private campaign is told: an error's own words may quote the data.

    >>> quietly(ValueError("no such illness: flu"), "the training raised ValueError: no such illness: flu")
    'ValueError; the campaign is private, so that only the log of this device has more'
    """
    if isinstance(error, (SpecError, Overdue)) and not isinstance(error, DataError):
        return why
    return f"{type(error).__name__}; the campaign is private, so that only the log of this device has more"


class Reporting:
    """Sends reports.

    Args:
        broker: this process's.
        worker: its name.
    """

    def __init__(self, broker: TaskBroker, worker: str) -> None:
        self._broker = broker
        self._worker = worker

    def report(self, task: TaskCall, outcome: str, why: str, text: str = "") -> None:
        """Tell the coordinator, however long the broker is away; where that fails, it will notice.

        Args:
            outcome: as in ``TaskReport``.
            why: in one sentence, which comes last.
            text: what is shown before it.
        """
        report = TaskReport(
            campaign=task.campaign,
            task_id=task.task_id,
            attempt=task.attempt,
            worker=self._worker,
            outcome=outcome,
            detail=f"{text}\n{why[:2000]}"[-MAX_DETAIL_CHARACTERS:].lstrip(),
        )
        try:
            patiently(lambda: self._broker.report(report), begin=device_outage)
        except BrokerError as error:
            log.error("the task cannot be reported; the coordinator will notice", reason=str(error))
