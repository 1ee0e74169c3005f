"""The broker is brought to where the log says that the campaign is: at the start, after a crash, after a loss."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from coordinator.campaign.course import Phase
from coordinator.campaign.state import CampaignState
from coordinator.loop.lease.standby import retake_lease
from coordinator.loop.parts import Parts
from coordinator.loop.trust.membership import verify_membership
from coordinator.outgoing.context import Context
from fl_core.broker.lease import FORGOTTEN, OLDER, LostData
from fl_core.broker.patience import Outage
from fl_core.broker.task_rows import ANSWERED, attempt_name
from fl_core.errors import CampaignError
from fl_core.program.redaction import redact
from fl_core.spec import to_toml
from fl_core.wire.events import Opened, Resumed
from fl_core.wire.log_entry import LogEntry, order

log = structlog.get_logger()


class Recovery:
    """Begins, and begins again.

    Args:
        ctx, state, parts: the campaign's.
        highest_fence: in the checkpoints.
        behind: the server knows of fewer commits than the checkpoint.
        reads_life_before: the state is still that of the life before, and the rest of that one's log is to be read.
        is_older: the checkpoint was not the newest one, which is damaged.
    """

    def __init__(
        self,
        ctx: Context,
        state: CampaignState,
        parts: Parts,
        highest_fence: Callable[[], int],
        *,
        behind: bool,
        reads_life_before: bool,
        is_older: bool = False,
    ) -> None:
        self._ctx = ctx
        self._state = state
        self._parts = parts
        self._highest_fence = highest_fence
        self._behind = behind
        self._reads_life_before = reads_life_before
        self._is_older = is_older
        self._log = log.bind(campaign=ctx.identity.campaign)

    def begin(self) -> None:
        """Take the campaign up.

        Raises:
            BrokerUnavailable: begin again.
        """
        self._ctx.clock.read()
        self._parts.monitors.resume_timing()
        if self._is_older:
            # The newest checkpoint may have known of other lives' releases, and what came after hung on that. Charged
            # before the log is read, they stop a device early at worst.
            self._charge_other_lives()
        if self._reads_life_before:
            self._read_life_before()
        self._parts.outages.loss = self._parts.outages.loss or self._missing()
        try:
            self._recover()
        except LostData as loss:
            self._restore(loss)
        if self._state.num_entries:
            self._parts.supply.sweep()

    def commit(self) -> None:
        """Write what the turn has collected; where that shows that the server has lost something, restore it first."""
        outages = self._parts.outages
        try:
            if outages.loss is None:
                self._parts.transaction.commit()
                return
        except LostData as loss:
            outages.loss = loss
        self._restore(outages.loss)

    def read(self, wait_ms: int) -> tuple[list[LogEntry], list[tuple[str, dict[bytes, bytes]]]]:
        """The next entries of the log, and operators' requests; where that shows a loss, nothing but the restored."""
        try:
            return self._parts.intake.read(wait_ms=wait_ms)
        except LostData as loss:
            self._restore(loss)
            return [], []

    def restore_if_lost(self) -> None:
        """Go on with a restoration during which the server went away."""
        if self._parts.outages.loss is not None:
            self._restore(self._parts.outages.loss)

    def survey(self) -> None:
        """Look at what no entry of the log tells, and restore what is missing."""
        try:
            self._parts.evictions.look()
            self._parts.surveyor.look()
            self._parts.supply.look()
        except LostData as loss:
            self._restore(loss)

    # -- a new life ------------------------------------------------------------------------------------------------

    def _read_life_before(self) -> None:
        """What the log still has of the life before counts; then this one's first checkpoint covers it."""
        state, parts = self._state, self._parts
        parts.monitors.resume_feed()
        parts.payloads.recover()
        parts.checkpoints.note_covered()
        parts.intake.replay()
        parts.transaction.clear()
        state.begin_life(self._ctx.identity.secret)
        parts.journal.begin_life(self._ctx.identity.secret)
        state.position = max(state.position, self._ctx.broker.log_end(), key=order)
        parts.stalls.forget(state.position)
        self._reads_life_before = False
        parts.checkpoints.save_first()

    # -- recovering ------------------------------------------------------------------------------------------------

    def _missing(self) -> LostData | None:
        """What the server lacks of what the checkpoint proves that it had."""
        campaign, broker = self._ctx.identity.campaign, self._ctx.broker
        if broker.incarnation() != self._ctx.identity.incarnation:
            return LostData(campaign, FORGOTTEN)
        if self._behind or order(broker.log_end()) < order(self._state.position):
            return LostData(campaign, OLDER)
        return None

    def _recover(self) -> None:
        state, parts, transaction = self._state, self._parts, self._parts.transaction
        if parts.outages.loss is not None:
            self._register(parts.outages.loss)
        # Before the log is read: who has answered by now is in it.
        owners = self._ctx.broker.all_owners()
        said = self._ctx.broker.said({name: owner for name, owner in owners.items() if owner is not None})
        parts.monitors.resume_feed()
        parts.payloads.recover()
        parts.checkpoints.note_covered()
        replayed = parts.intake.replay()
        verify_membership(self._ctx.authority, state.signers.authority)
        self._charge_other_lives()
        transaction.clear()
        parts.payloads.keep_only(parts.checkpoints.all_blobs())
        self._ctx.clock.begin(state.timeline.clock_shift_ms, order(state.position)[0])
        parts.monitors.tell_who_leads()
        transaction.go_on_from(state.sequence, state.ledger.issued)
        if state.sequence == 0:
            ctx = self._ctx
            transaction.append(
                Opened(
                    spec=ctx.spec.digest(),
                    layout=ctx.layout.digest,
                    authority=ctx.authority or None,
                    keepers=ctx.keepers or None,
                )
            )
        elif state.phase == Phase.INTERRUPTED:
            transaction.append(Resumed(control=""))
        parts.payloads.reissue_lost(transaction)
        parts.spending.show()
        parts.keepers.forget()
        parts.supply.begin()
        identify = self._ctx.identity.task_id
        out = {attempt_name(identify(task.number), task.attempt) for task in state.ledger.open.values()}
        stale = [
            name for name, owner in owners.items() if owner is None or name not in out or said.get(name) == ANSWERED
        ]
        transaction.add(self._ctx.broker.close_all_commands(stale))
        transaction.open(state.ledger.open.values())
        if parts.outages.loss is not None:
            transaction.ring(state.ledger.open.values())
        transaction.commit()
        parts.outages.loss = None
        parts.checkpoints.forget_life_before()
        if replayed:
            self._log.info("resumed", replayed=replayed, version=state.strategy.version, out=state.ledger.out)

    def _charge_other_lives(self) -> None:
        self._parts.spending.charge_other_lives(self._parts.checkpoints.save_first)

    def _register(self, loss: LostData) -> None:
        """Write down what the server must know of the campaign: at launch, in a new life, after a loss of data."""
        state, identity = self._state, self._ctx.identity
        if state.num_entries and not self._parts.checkpoints.replaces:
            self._log.warning(
                "the broker has forgotten the campaign's data; writing it again",
                reason=f"it {loss.how}{self._parts.evictions.blame()}",
                version=state.strategy.version,
                missing="updates not yet read; their tasks are re-issued",
            )
        self._ctx.broker.register(
            identity.created_ms, identity.incarnation, redact(to_toml(self._ctx.spec)),
            position=state.position, control_position=state.control_position,
        )  # fmt: skip

    # -- restoring -------------------------------------------------------------------------------------------------

    def _restore(self, loss: LostData) -> None:
        """The server has less of the campaign than this process: write it again, as often as it gets lost."""
        machine, interrupted = self._ctx.machine, self._parts.decisions.interrupted
        outage = Outage(machine)
        while True:
            self._parts.outages.loss = loss
            try:
                self._write_again(loss)
                return
            except LostData as again:
                loss = again
            if machine.wait(outage.next_pause(), interrupted):
                raise CampaignError(f"interrupted; the broker loses the campaign again and again. {loss}")

    def _write_again(self, loss: LostData) -> None:
        """From memory, which is ahead of any checkpoint."""
        state, parts = self._state, self._parts
        retake_lease(self._ctx.writer, self._highest_fence(), parts.decisions.interrupted, self._ctx.machine)
        if not state.accepts:  # only what is left of the end has to be written
            self._register(loss)
            parts.supply.publish_exactly()
            parts.transaction.commit()
            parts.outages.loss = None
            return
        parts.transaction.clear()
        parts.decisions.forget()
        parts.stalls.forget(state.position)
        parts.surveyor.wait_for_beats()
        self._recover()
        parts.checkpoints.save()
