"""Requests from outside (operators, time, Ctrl-C, scores), written into the log as events before they take effect."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import replace

import structlog

from coordinator.campaign.course import Phase
from coordinator.campaign.state import CampaignState
from coordinator.loop.evaluation.scoring import Scoring
from coordinator.loop.trust.requests import Asked, Requests
from coordinator.outgoing.context import Context
from coordinator.outgoing.transaction import Transaction
from coordinator.telemetry.timing import Timing
from fl_core.broker.bulk.head import Head
from fl_core.errors import CampaignError
from fl_core.program.plain_text import shown
from fl_core.wire.events import (
    Evaluated,
    Evaluating,
    Interrupted,
    MergeDue,
    Paused,
    Readmitted,
    RequestRefused,
    Resumed,
    Stopped,
)  # fmt: skip

log = structlog.get_logger()


class Decisions:
    """Turns wishes into events; each of them once.

    Args:
        ctx, state, timing: the campaign's.
        transaction: where events go.
        evaluator: None when the spec names no evaluation data.

    Attributes:
        interrupted: set by Ctrl-C.
        stop_asked: an event that ends the campaign was written.
    """

    def __init__(
        self,
        ctx: Context,
        state: CampaignState,
        transaction: Transaction,
        evaluator: Scoring | None,
        timing: Timing,
    ) -> None:
        self._broker = ctx.broker
        self._spec = ctx.spec
        self._state = state
        self._transaction = transaction
        self._evaluator = evaluator
        self._clock = ctx.clock
        self._requests = Requests(ctx, state.signers)
        self._timing = timing
        self._evaluated = -1
        self._evaluation_asked = 0.0
        self._merge_asked = -1
        self._pin_asked = False
        self._without_evaluation = False
        self._log = log.bind(campaign=ctx.identity.campaign)
        self.interrupted = threading.Event()
        self.stop_asked = False

    def forget(self) -> None:
        """What was asked for did not reach the log: ask again."""
        self.stop_asked = False
        self._merge_asked = -1
        self._pin_asked = False
        self._requests.forget()

    # -- operators -------------------------------------------------------------------------------------------------

    def take_request(self, position: str, fields: Mapping[bytes, bytes]) -> None:
        """An entry of the control stream."""
        asked = self._requests.read(position, fields)
        if isinstance(asked, RequestRefused):
            self._log.warning("refused an operator's request", request=asked.request, reason=asked.detail)
            self._transaction.append(asked)
            return
        by = {"operator": asked.operator, "nonce": asked.nonce}
        match asked.request:
            case "pause":
                self._transaction.append(Paused(control=position, **by))
            case "resume":
                self._transaction.append(Resumed(control=position, **by))
            case "stop":
                self._transaction.append(Stopped(reason="asked", control=position, **by))
            case "readmit":
                self._readmit(asked, position)
            case other:
                self._log.warning("unknown request", request=shown(other, 60))

    def _readmit(self, asked: Asked, control: str) -> None:
        position = asked.argument
        parked = self._broker.quarantine.find(position)
        # The request is answered in any case: it must not be taken again after a crash.
        answer = Readmitted(
            control=control, task=0, reason="", header=b"", payload=b"", operator=asked.operator, nonce=asked.nonce
        )
        if self._state.privacy is not None:
            self._log.warning("nothing is readmitted with privacy.mode = 'central'", parked=position)
        elif parked is None or parked.task is None or not parked.has_payload:
            self._log.warning("cannot be readmitted", parked=position, reason="gone, too large, or ended no task")
        else:
            answer = replace(
                answer, task=parked.task, reason=parked.reason, header=parked.header, payload=parked.payload
            )
            self._transaction.add(self._broker.quarantine.unpark_commands(position))
        self._transaction.append(answer)

    # -- scores, time, Ctrl-C --------------------------------------------------------------------------------------

    def take(self) -> None:
        """Look at everything that may have happened since the last turn.

        Raises:
            CampaignError: the evaluation cannot work.
        """
        if self._evaluator is not None:
            for result in self._evaluator.take_results():
                self._timing.add_evaluation(self._clock.machine.monotonic() - self._evaluation_asked)
                self._transaction.append(
                    Evaluated(
                        version=result.version,
                        loss=result.loss,
                        metrics=result.metrics,
                        num_examples=result.num_examples,
                    )
                )
            if self._evaluator.error is not None and not self._without_evaluation:
                self._do_without_evaluation(self._evaluator.error, died=self._evaluator.died)
        if self.stop_asked or not self._state.timeline.opened_ms:
            return
        self._merge_if_due()
        limit = self._spec.stop.seconds
        if self.interrupted.is_set():
            self.stop_asked = True
            self._transaction.append(Interrupted(control=""))
        elif limit is not None and self._clock.now_ms() - self._state.timeline.opened_ms >= limit * 1000:
            self.stop_asked = True
            self._transaction.append(Stopped(reason="seconds", control=""))

    def may_wait_ms(self, most_ms: int) -> int:
        """How long the loop may wait for the log: until something is due, and not where scores wait to be taken."""
        if not most_ms or (self._evaluator is not None and self._evaluator.has_results):
            return 0
        due_ms = [self._merge_due_ms()]
        if (limit := self._spec.stop.seconds) is not None and not self.stop_asked:
            due_ms.append(self._state.timeline.opened_ms + 1000 * limit)
        left_ms = min(due_ms) - self._clock.now_ms()
        return max(1, math.ceil(left_ms)) if left_ms < most_ms else most_ms

    def _do_without_evaluation(self, reason: str, *, died: bool) -> None:
        """Code that raises has to be mended. A process that dies again and again may have met a limit of this machine:
        a campaign whose end does not depend on scores goes on without them."""
        if self.stop_asked or not self._state.accepts:
            return  # the end says what was left out
        stop = self._spec.stop
        if not died:
            raise CampaignError(reason)
        if stop.targets:
            key = (
                "stop.accuracy"
                if stop.accuracy is not None
                else "stop.loss"
                if stop.loss is not None
                else "stop.metric"
            )
            raise CampaignError(f"{reason} {key} needs evaluations; mend the cause and go on with --resume.")
        self._without_evaluation = True
        self._log.warning("going on without evaluations, and without the guard that needs them", reason=reason)

    def _merge_if_due(self) -> None:
        """Semi-asynchronous: what waits in the buffer is merged after ``max_wait_seconds``, full or not."""
        if self._clock.now_ms() >= self._merge_due_ms():
            self._merge_asked = self._state.strategy.version
            self._transaction.append(MergeDue(version=self._merge_asked))

    def _merge_due_ms(self) -> float:
        """When that is, in campaign time; infinite where nothing waits for it, or it was asked for."""
        state, patience = self._state, self._spec.aggregation.max_wait_seconds
        if patience is None or not state.merging.num_waiting or state.strategy.version <= self._merge_asked:
            return math.inf
        return state.merging.waits_since_ms + 1000 * patience

    # -- evaluation ------------------------------------------------------------------------------------------------

    def ask_for_evaluation(self, published: int) -> None:
        """Have the newest version scored, if it is time and the evaluator is free.

        Where a target may end the campaign, the log says first which version that is
        (``coordinator/campaign/judging/delivery.py``), and the evaluator is asked when that has been read.
        """
        if self._evaluator is None or self._evaluator.busy or self._state.phase not in (Phase.RUNNING, Phase.PAUSED):
            return
        if self._pin_asked or self._without_evaluation:
            return
        if self._evaluated < 0 or published >= self._evaluated + self._spec.evaluation.every_versions:
            self._evaluated = published
            if self._spec.stop.targets:
                self._pin_asked = True
                self._transaction.append(Evaluating())
            else:
                self.evaluate_now(self._evaluator)

    def evaluate_pinned(self, version: int, head: Head | None) -> None:
        """The log has said that this version, which was published there, is to be scored."""
        self._pin_asked = False
        if self._evaluator is None or self._evaluator.busy:
            return
        self._evaluated = version
        self.evaluate_now(self._evaluator, head)

    def evaluate_now(self, evaluator: Scoring, head: Head | None = None) -> None:
        """Have the newest version scored, or one that was published before."""
        self._evaluation_asked = self._clock.machine.monotonic()
        evaluator.request(head)
