"""The coordinator's one loop: read the log, apply it, publish the newest version, keep tasks out.

Order inside one turn, and why:

1. what devices have sent is moved into the log; entries are read and applied (``state``): nothing has left the process;
2. the newest version's bytes are written, once per turn however many merges the turn had;
3. one fenced transaction moves the head, closes tasks, appends events (tasks issued, evaluations, control) and puts
   doorbells on the queues, whose tasks thus bind to the version just published.

A crash at any point loses nothing that is not in the log, and the log is applied again on resume. Nothing here decides
anything from a clock or from chance without writing the decision into the log first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coordinator.campaign.course import Phase
from coordinator.campaign.identity import Identity
from coordinator.campaign.state import CampaignState
from coordinator.campaign.summary import Summary
from coordinator.loop.finishing import Finishing
from coordinator.loop.lease.keeper import LeaseKeeper
from coordinator.loop.parts import Parts
from coordinator.loop.recovery import Recovery
from coordinator.outgoing.context import Context
from fl_core.errors import FedtideError, FencedOut
from fl_core.program.crash_points import crash_point


class Coordinator:
    """Runs one campaign from wherever its state stands to its end.

    Args:
        ctx, state, parts, recovery, finishing: the campaign's.
        look_after: called about once a second, and while the broker is away; what it raises ends the campaign.
        write_results: writes what the campaign came to into the run's folder.
    """

    def __init__(
        self,
        ctx: Context,
        state: CampaignState,
        parts: Parts,
        recovery: Recovery,
        finishing: Finishing,
        *,
        look_after: Callable[[], None],
        write_results: Callable[[Summary], None],
    ) -> None:
        self._ctx = ctx
        self._state = state
        self._parts = parts
        self._recovery = recovery
        self._finishing = finishing
        self._look_after = look_after
        self._write_results = write_results
        self._next_survey = 0.0

    @property
    def identity(self) -> Identity:
        """What names the campaign."""
        return self._ctx.identity

    def save_first(self) -> None:
        """Write the first checkpoint before anything is published: from then on the campaign can be resumed.

        Raises:
            CampaignError: it cannot be written.
        """
        self._parts.checkpoints.save_first()

    def interrupt(self) -> None:
        """End soon, in a way that can be resumed (Ctrl-C). Safe to call from a signal handler."""
        self._parts.decisions.interrupted.set()

    def run(self) -> dict[str, Any]:
        """Coordinate until the campaign ends, and return its summary.

        Raises:
            FencedOut: another coordinator took over.
            CampaignError: the evaluation cannot work, or a checkpoint cannot be written.
        """
        parts, outages = self._parts, self._parts.outages
        keeper = LeaseKeeper(self._ctx.writer)
        keeper.start()
        try:
            outages.through(self._recovery.begin)
            while not self._is_done():
                if keeper.fenced_out:
                    raise FencedOut(
                        f"campaign {self._ctx.identity.campaign} has passed to another coordinator; this one ends."
                    )
                outages.through(self._turn)
            return self._finishing.finish(self._turn, self._write_results)
        except FencedOut:
            raise
        except FedtideError as error:
            if not parts.decisions.interrupted.is_set():
                parts.monitors.tell_of_failure(error, parts.checkpoints.age_seconds)
            raise
        finally:
            keeper.stop()
            parts.payloads.close()
            parts.checkpoints.close()
            parts.journal.close()

    def _is_done(self) -> bool:
        # An event that was written but not read back may still change the phase: "resumed" does.
        all_read = self._parts.transaction.sequence == self._state.sequence
        return all_read and (self._state.phase.is_over or self._state.phase == Phase.INTERRUPTED)

    # -- one turn --------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        parts, transaction = self._parts, self._parts.transaction
        self._recovery.restore_if_lost()
        self._take_in()
        parts.decisions.take()
        self._publish()
        parts.supply.order()
        self._issue()
        parts.keepers.look()
        parts.monitors.note_keepers(parts.keepers.waits_for)
        parts.monitors.tell(parts.checkpoints.age_seconds)
        parts.checkpoints.trim(parts.payloads, parts.stalls, transaction)
        parts.checkpoints.save_if_due()
        self._recovery.commit()
        self._survey_if_due()
        parts.decisions.ask_for_evaluation(parts.supply.published)

    def _take_in(self) -> None:
        """Apply what the log has, and take operators' requests."""
        parts = self._parts
        most_ms = self._ctx.cadence.read_wait_ms if parts.transaction.is_empty else 0
        entries, requests = self._recovery.read(parts.decisions.may_wait_ms(most_ms))
        for effects in parts.intake.take(entries):
            if effects.pinned is not None:
                self._publish()
                parts.decisions.evaluate_pinned(effects.pinned, parts.supply.head)
        parts.stalls.caught_up |= parts.intake.at_end
        parts.payloads.reissue_lost(parts.transaction)
        for position, fields in requests:
            parts.decisions.take_request(position, fields)

    def _publish(self) -> None:
        if not self._parts.supply.is_behind:
            return
        crash_point("between_merge_and_publish")
        self._parts.intake.look_ahead()  # beside the publishing
        self._parts.supply.publish()

    def _issue(self) -> None:
        running, parts, masked = self._state.phase == Phase.RUNNING, self._parts, self._state.masked
        if masked is not None and masked.is_crowded:
            return
        if running and not parts.decisions.stop_asked and not parts.checkpoints.are_stuck:
            parts.supply.issue()

    def _survey_if_due(self) -> None:
        machine, cadence = self._ctx.machine, self._ctx.cadence
        if machine.monotonic() < self._next_survey:
            return
        self._look_after()
        began = machine.monotonic()
        self._recovery.survey()
        took = machine.monotonic() - began
        self._next_survey = began + max(cadence.survey_seconds, took / cadence.max_survey_share)
