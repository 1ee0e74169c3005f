"""The last steps of a campaign at the broker: its end published, evaluated and saved, and nothing bulky left behind."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from coordinator.campaign.state import CampaignState
from coordinator.campaign.summary import Summary
from coordinator.loop.evaluation.scoring import Scoring
from coordinator.loop.parts import Parts
from coordinator.loop.recovery import Recovery
from coordinator.outgoing.context import Context
from fl_core.broker.doorbell.removal import remove_doorbells
from fl_core.broker.overview import feed, leftovers
from fl_core.program.crash_points import crash_point

log = structlog.get_logger()


class Finishing:
    """Takes them, in an order in which each can be taken again.

    Args:
        ctx, state, parts, recovery: the campaign's.
        evaluator: None when the spec names no evaluation data.
    """

    def __init__(
        self,
        ctx: Context,
        state: CampaignState,
        parts: Parts,
        recovery: Recovery,
        evaluator: Scoring | None,
    ) -> None:
        self._ctx = ctx
        self._state = state
        self._parts = parts
        self._recovery = recovery
        self._evaluator = evaluator
        self._left_out: list[str] = []

    def finish(self, turn: Callable[[], None], write_results: Callable[[Summary], None]) -> Summary:
        """Take all of them.

        Args:
            turn: one of the loop's, which goes on while the last version is evaluated.
            write_results: writes what the campaign came to into the run's folder.

        Returns:
            The summary.

        Raises:
            CampaignError: the last checkpoint cannot be written.
        """
        parts = self._parts
        crash_point("before_last_publish")
        parts.outages.through(parts.supply.publish_exactly)
        parts.outages.through(self._recovery.commit)
        crash_point("before_last_evaluation")
        self._evaluate_last_version(turn)
        crash_point("before_last_checkpoint")
        parts.checkpoints.save_last(parts.decisions.interrupted)
        crash_point("after_last_checkpoint")
        self._state.ledger.verify()
        summary = parts.monitors.summarise()
        if self._left_out:
            summary["left_out"] = self._left_out
        write_results(summary)
        parts.outages.through(self._clear_broker)
        return summary

    def _evaluate_last_version(self, turn: Callable[[], None]) -> None:
        evaluator, machine = self._evaluator, self._ctx.machine
        seconds = self._ctx.cadence.last_evaluation_seconds
        deadline = machine.monotonic() + seconds
        if evaluator is None:
            return
        asked = False
        while not self._is_last_version_scored():
            if evaluator.error is not None or machine.monotonic() > deadline:
                reason = evaluator.error or f"it took longer than {seconds:.0f} s"
                log.warning("the last version was not evaluated", campaign=self._ctx.identity.campaign, reason=reason)
                self._left_out.append(f"the evaluation of the last version: {reason}")
                return
            if not evaluator.busy and not asked:
                asked = True
                self._parts.decisions.evaluate_now(evaluator)
            self._parts.outages.through(turn)
            if asked and not evaluator.busy and self._parts.transaction.is_empty:
                asked = self._is_last_version_scored()

    def _is_last_version_scored(self) -> bool:
        return self._state.scores.version == self._state.delivery.version(self._state.strategy)

    def _clear_broker(self) -> None:
        """Leave nothing behind that others would pay for: doorbells, and after the end the campaign's bulky keys."""
        ctx, parts, transaction = self._ctx, self._parts, self._parts.transaction
        dispatch = ctx.spec.dispatch
        parts.checkpoints.trim(parts.payloads, parts.stalls, transaction)
        parts.payloads.forget_all()  # the last checkpoint covers them
        crash_point("spool_removed")
        remove_doorbells(ctx.client, ctx.identity.campaign, dispatch.queues, limit=4 * dispatch.concurrency)
        crash_point("doorbells_removed")
        parts.monitors.tell_all(parts.checkpoints.age_seconds)
        if self._state.phase.is_over:
            transaction.add(feed.expire_commands(ctx.keys))
            parts.supply.drop_everything()
            leftovers.forget_expired(ctx.client, ctx.broker.clock_ms() - feed.KEEP_SECONDS * 1000)
            parts.payloads.drop(parts.checkpoints.all_blobs(), transaction)
            transaction.add(ctx.broker.end_commands())
        crash_point("before_end_commit")
        self._recovery.commit()
        crash_point("before_release")
        ctx.writer.release()
