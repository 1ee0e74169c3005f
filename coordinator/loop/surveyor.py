"""The look, once a second, at what no entry of the log shows: workers, doorbells, the server's clock and its memory.

What follows goes into the log as an event, or is rung for; proof that the server has forgotten data is raised.
"""

from __future__ import annotations

import structlog

from coordinator.campaign.course import Phase
from coordinator.campaign.ledger import OpenTask
from coordinator.campaign.state import CampaignState
from coordinator.loop.monitors import Monitors
from coordinator.loop.trust.revocations import Revocations
from coordinator.outgoing.context import Context
from coordinator.outgoing.dispatcher import Dispatcher
from coordinator.outgoing.eligibility import Eligibility
from coordinator.outgoing.lookout import Fleet, Lookout
from coordinator.outgoing.stalls import Stalls
from coordinator.outgoing.transaction import MAX_TASKS, Transaction
from fl_core.broker.overview.roster import IDLE_BEAT_SECONDS
from fl_core.wire.events import ClockSet, Reissued, Stopped
from fl_core.wire.log_entry import order

MAX_NAMED_TASKS = 20
WORD_SECONDS = 60.0

log = structlog.get_logger()


class Surveyor:
    """Looks, and says what is to be done.

    Args:
        ctx, state: the campaign's.
        transaction, monitors: where the consequences go.
        lookout, dispatcher, stalls: who looks at what, and decides what follows.
    """

    def __init__(
        self,
        ctx: Context,
        state: CampaignState,
        transaction: Transaction,
        monitors: Monitors,
        lookout: Lookout,
        dispatcher: Dispatcher,
        stalls: Stalls,
    ) -> None:
        self._ctx = ctx
        self._state = state
        self._transaction = transaction
        self._clock = ctx.clock
        self._monitors = monitors
        self._lookout = lookout
        self._dispatcher = dispatcher
        self._stalls = stalls
        self._revocations = Revocations(ctx, state, transaction)
        self._eligibility = Eligibility(ctx, state, lookout)
        self._judge_after = 0.0
        self._next_word = 0.0
        self._log = log.bind(campaign=ctx.identity.campaign)

    def wait_for_beats(self, at_least_seconds: float = 0.0) -> None:
        """Nothing is said of workers before each of them has had the time to beat again."""
        seconds = max(at_least_seconds, self._ctx.spec.dispatch.lease_seconds) + self._ctx.cadence.return_seconds
        self._judge_after = max(self._judge_after, self._clock.machine.monotonic() + seconds)

    def look(self) -> None:
        """Look once.

        Raises:
            LostData: the server has less of the campaign than it had.
            BrokerUnavailable: look again.
        """
        if self._clock.read():
            self.wait_for_beats(IDLE_BEAT_SECONDS)
        self._correct_time()
        self._revocations.look()
        fleet = self._lookout.look_at_fleet()
        self._dispatcher.note_fleet(fleet)
        judge = self._clock.machine.monotonic() >= self._judge_after
        self._monitors.note_fleet(fleet, named=judge)
        self._stalls.look(self._state, self._transaction.sequence)
        seen = self._lookout.look_at_tasks(self._state.ledger)
        caught_up = self._stalls.take_caught_up()
        survey = self._dispatcher.survey(
            self._state.ledger, seen, self._lookout.ask_owners, judge_workers=judge, caught_up=caught_up
        )
        self._monitors.note_claimed(survey.claimed)
        if judge:
            self._stop_if_nobody_is_left(fleet)
        self._tell_what_waits()
        self._reissue(survey.abandoned)
        if survey.silent and self._state.phase == Phase.RUNNING:
            self._log.info("ringing again", tasks=len(survey.silent))
            self._stalls.look_at_rung(survey.silent, self._state)
            self._transaction.ring(survey.silent)

    def _stop_if_nobody_is_left(self, fleet: Fleet) -> None:
        """Privacy budgets are spent: what waits is merged, and the campaign is over."""
        all_read = self._transaction.sequence == self._state.sequence
        if all_read and self._state.phase == Phase.RUNNING and self._eligibility.is_nobody_left(fleet):
            self._transaction.append(Stopped(reason="privacy"))

    def _tell_what_waits(self) -> None:
        """A full buffer that still lacks something is logged once a minute."""
        lacks = self._state.strategy.waits_for
        if not lacks or self._clock.machine.monotonic() < self._next_word:
            return
        self._next_word = self._clock.machine.monotonic() + WORD_SECONDS
        timeline = self._state.timeline
        since = timeline.seconds(self._clock.now_ms()) - timeline.seconds(self._state.merging.waits_since_ms)
        self._log.warning(f"nothing is merged before there are {lacks}", since_seconds=round(since))

    def _correct_time(self) -> None:
        """Have the log's time follow, where a jump of the server's clock has taken it away from the campaign's."""
        state = self._state
        if not state.timeline.opened_ms or not state.accepts or self._transaction.sequence != state.sequence:
            return
        shift_ms = self._clock.correction_ms(state.timeline.clock_shift_ms, order(state.position)[0])
        if shift_ms is not None:
            self._transaction.append(ClockSet(shift_ms=shift_ms))

    def _reissue(self, abandoned: list[tuple[OpenTask, str, str]]) -> None:
        for start in range(0, len(abandoned), MAX_TASKS):
            if start:
                self._transaction.commit()
            for task, queue, reason in abandoned[start : start + MAX_TASKS]:
                given_up = Reissued(task=task.number, attempt=task.attempt, queue=queue, reason=reason)
                self._transaction.append(given_up)
        for task, _, reason in abandoned[:MAX_NAMED_TASKS]:
            name = self._ctx.identity.task_id(task.number)
            self._log.warning("task abandoned", task=name, attempt=task.attempt, reason=reason)
        if more := abandoned[MAX_NAMED_TASKS:]:
            self._log.warning(
                "more tasks abandoned", tasks=len(more), reasons=sorted({reason for _, _, reason in more})
            )
