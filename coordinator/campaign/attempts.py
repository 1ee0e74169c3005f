"""Attempts at tasks that came to nothing: refused, failed, handed back, or lost; each ends its task or re-issues it."""

from __future__ import annotations

from coordinator.campaign.contributions import Contributions
from coordinator.campaign.course import Course
from coordinator.campaign.effects import Effects, Refused
from coordinator.campaign.fruitless import place_of
from coordinator.campaign.ledger import Ledger, OpenTask
from fl_core.errors import Reason
from fl_core.wire.events import Reissued
from fl_core.wire.history import ReissueLine, RejectionLine
from fl_core.wire.messages import ModelUpdate, TaskReport

# Of what a device says of a task it could not do; the log of the coordinator has all of it.
MAX_SAID_CHARACTERS = 300


class Attempts:
    """What becomes of tasks whose attempt came to nothing.

    Args:
        max_attempts: so many of a task are spent at most (``dispatch.max_attempts``).
        ledger, contributions, course: the campaign's.
    """

    def __init__(self, max_attempts: int, ledger: Ledger, contributions: Contributions, course: Course) -> None:
        self._max_attempts = max_attempts
        self._ledger = ledger
        self._contributions = contributions
        self._course = course

    def refuse(self, refused: Refused, effects: Effects) -> None:
        """An entry of the log must not be merged; if it answers an open task, that one ends as rejected."""
        effects.refusals.append(refused)
        update, task = refused.update, refused.task
        if task is None:
            self._ledger.surplus[refused.reason.value] += 1
        else:
            self._ledger.reject(task, refused.reason)
            effects.closed.append(task.number)
        _note_rejection(effects, refused.reason, update, signer=refused.signer)
        if task is not None and refused.reason not in (Reason.RESTING, Reason.BUDGET_SPENT):  # nothing has failed
            worker = update.worker if update is not None else ""
            self._course.note_failure(refused.reason.value, refused.detail, worker, place_of(task), effects)

    def take_report(self, report: TaskReport, task: OpenTask, effects: Effects) -> None:
        """A device says that it could not do a task, or gives it back."""
        taken, said = place_of(task), report.detail.strip().rpartition("\n")[2]
        if report.outcome in ("handed_back", "budget_spent"):
            effects.handed_back = report
            self._reissue(task, task.queue, effects, reason=report.outcome, spent=False, report=report)
            if report.outcome == "budget_spent":  # nothing has failed
                self._contributions.note_given_all(report.worker)
            elif said:
                self._course.note_failure("handed_back", said, report.worker, taken, effects)
            return
        effects.failure = report
        if task.failures + 1 >= self._max_attempts:
            self._ledger.reject(task, Reason.TRAINING_FAILED)
            effects.closed.append(task.number)
            _note_rejection(effects, Reason.TRAINING_FAILED, report, _last_words(report))
            self._course.close_cohort(effects)
        else:
            self._reissue(task, task.queue, effects, reason="failed", spent=True, report=report)
        self._course.note_failure("failed", said, report.worker, taken, effects)

    def give_up(self, event: Reissued, effects: Effects) -> None:
        """The coordinator gives an attempt up, unless it was answered first."""
        task, reason = self._ledger.open.get(event.task), event.reason
        if task is None or task.attempt != event.attempt:
            return
        spent, taken = reason != "no_worker", place_of(task)
        if spent and task.failures + 1 >= self._max_attempts:
            self._ledger.expire(task)
            effects.closed.append(task.number)
            self._course.close_cohort(effects)
        else:
            self._reissue(task, event.queue, effects, reason=reason, spent=spent)
        if reason in ("lost", "deadline"):
            self._course.note_failure(reason, "", "", taken, effects)

    def _reissue(
        self,
        task: OpenTask,
        queue: str,
        effects: Effects,
        *,
        reason: str,
        spent: bool,
        report: TaskReport | None = None,
    ) -> None:
        self._ledger.reissue(task, queue=queue, now_ms=effects.moment_ms, spent=spent)
        effects.reopened.append(task)
        effects.history.append(
            ReissueLine(
                seconds=effects.seconds,
                task=task.number,
                attempt=task.attempt,
                reason=reason,
                worker=None if report is None else report.worker,
                detail=None if report is None else _last_words(report),
            )
        )


def _note_rejection(
    effects: Effects,
    reason: Reason,
    answer: ModelUpdate | TaskReport | None,
    detail: str | None = None,
    signer: str = "",
) -> None:
    """A line for what came to nothing, with what is known of who sent it."""
    worker, task = (answer.worker, answer.task_id) if answer else (signer or None, None)
    effects.history.append(
        RejectionLine(seconds=effects.seconds, reason=reason.value, worker=worker, task=task, detail=detail)
    )


def _last_words(report: TaskReport) -> str:
    """The last line of what a device says, which of a traceback is the error."""
    lines = report.detail.split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return said[:MAX_SAID_CHARACTERS]
