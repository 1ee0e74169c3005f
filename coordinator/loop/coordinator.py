"""The coordinator's one loop: read the log, apply it, publish the newest version, keep tasks out.

Order inside one turn, and why:

1. entries are read and applied (``state``): nothing has left the process yet;
2. the newest version's bytes are written, once per turn however many merges the turn had;
3. one fenced transaction moves the head, closes tasks, appends events (tasks issued, evaluations, control) and puts
   doorbells on the queues, whose tasks thus bind to the version just published.

A crash at any point loses nothing that is not in the log, and the log is applied again on resume. Nothing here decides
anything from a clock or from chance without writing the decision into the log first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Any, TypeVar

import structlog

from coordinator.campaign.course import Phase
from coordinator.campaign.effects import Effects
from coordinator.campaign.identity import Identity
from coordinator.campaign.state import CampaignState
from coordinator.loop.consequences import Consequences
from coordinator.loop.decisions import Decisions
from coordinator.loop.ending import write_results
from coordinator.loop.evictions import Evictions
from coordinator.loop.lease_keeper import LeaseKeeper
from coordinator.loop.outage import Outage
from coordinator.loop.scoring import Scoring
from coordinator.loop.standby import retake_lease
from coordinator.loop.surveyor import Surveyor
from coordinator.outgoing.dispatcher import Dispatcher
from coordinator.outgoing.orders import Orders
from coordinator.outgoing.payloads import WORTH_A_THREAD_BYTES, Payloads
from coordinator.outgoing.publisher import Publisher
from coordinator.outgoing.stalls import Stalls
from coordinator.outgoing.transaction import Transaction
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.history import History
from coordinator.storage.kept_log import KeptLog
from coordinator.storage.last_commit import LastCommit
from coordinator.storage.run_folder import Beside, RunFolder
from coordinator.storage.saver import Saver
from coordinator.telemetry.feed import Feed
from coordinator.telemetry.spans import Traces
from coordinator.telemetry.status import Progress, StatusBoard
from coordinator.telemetry.timing import Timing
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.clock import CampaignClock
from fl_core.broker.connection import Client
from fl_core.broker.doorbell.removal import remove_doorbells
from fl_core.broker.lease import FORGOTTEN, OLDER, LostData, Writer
from fl_core.broker.log import START, LogReader, scan
from fl_core.broker.overview import feed, leftovers
from fl_core.broker.overview.roster import Roster
from fl_core.broker.overview.strangers import drop_strangers
from fl_core.clock import MACHINE, Clock
from fl_core.errors import BrokerUnavailable, BrokerUnfit, CampaignError, FedtideError, FencedOut
from fl_core.program.crash_points import crash_point
from fl_core.program.redaction import redact
from fl_core.spec import CampaignSpec, to_toml
from fl_core.vectors.agreement import constants_digest
from fl_core.vectors.layout import Layout
from fl_core.wire.feed_lines import CoordinatorLine
from fl_core.wire.log_entry import LogEntry, order

log = structlog.get_logger()

READ_WAIT_MS = 100
READ_ENTRIES = 64
CHECKPOINT_UPDATES = 4
SURVEY_SECONDS = 1.0
# Of a very large campaign, surveys take at most this share of the time.
MAX_SURVEY_SHARE = 0.2
STATUS_SECONDS = 0.5
# A position of the log that lies further ahead of the server's clock was not written by one.
FUTURE_MS = 3_600_000
FINAL_EVALUATION_SECONDS = 120.0
DISK_SECONDS = 60.0
DISK_PAUSE_SECONDS = 2.0

T = TypeVar("T")


class Coordinator:
    """Runs one campaign from wherever its state stands to its end.

    Args:
        client: the broker's data connection, used by this thread alone.
        folder: where the run's files go.
        store: where checkpoints go.
        identity, spec, state, layout, payloads: the campaign.
        beside: what the layout leaves out of the model (``tensors_beside``).
        writer: the lease, already held.
        evaluator: None when the spec names no evaluation data.
        history_bytes: where the history stood when ``state`` was saved.
        commits: how many commits the campaign had had then.
        on_progress: called a few times a second.
        look_after: called about once a second, and while the broker is away; what it raises ends the campaign.
        blobs_place: the server for blobs (``fl_core/broker/bulk/places.py``); empty for none.
        traces: where the tasks' spans are told; None for nowhere.
        about: what else each checkpoint tells a resume (``lives.py``).
        last_commit: told of each commit before it is sent.
        kept_log: where all that is applied is written down; None for nowhere.
        reads_life_before: the state is still that of the life before, and the rest of that one's log is to be read.
        machine: this machine's clock.
    """

    def __init__(
        self,
        *,
        client: Client,
        folder: RunFolder,
        store: CheckpointStore,
        identity: Identity,
        spec: CampaignSpec,
        state: CampaignState,
        layout: Layout,
        beside: Beside,
        payloads: Payloads,
        writer: Writer,
        evaluator: Scoring | None,
        history_bytes: int,
        commits: int,
        on_progress: Callable[[Progress], None],
        look_after: Callable[[], None] = lambda: None,
        blobs_place: str = "",
        traces: Traces | None = None,
        about: Mapping[str, Any] | None = None,
        last_commit: LastCommit | None = None,
        reads_life_before: bool = False,
        kept_log: KeptLog | None = None,
        machine: Clock = MACHINE,
    ) -> None:
        self._client = client
        self._broker = broker = CampaignBroker(client, identity.campaign)
        self._keys = broker.keys
        self._folder = folder
        self._identity = identity
        self._spec = spec
        self._state = state
        self._layout, self._beside = layout, beside
        self._store = store
        self._writer = writer
        self._behind, writer.commits = writer.commits < commits, max(writer.commits, commits)
        self._loss: LostData | None = None
        self._about = dict(about or {})
        self._reads_life_before = reads_life_before
        self._kept_log = kept_log
        self._evaluator = evaluator
        self._history = History(folder.history, history_bytes)
        self._roster = Roster(client)
        self._dispatcher = Dispatcher(broker, self._roster, identity.campaign, spec.dispatch, identity.task_id, machine)
        self._reader = LogReader(client, self._keys, state.position, state.control_position)
        self._machine = machine
        self._clock = clock = CampaignClock(broker, machine)
        self._timing = timing = Timing()
        self._saver = Saver(store, writer, timing.add_checkpoint, machine)
        self._feed = Feed(self._keys)
        self._transaction = Transaction(broker, writer, identity, clock, traces, last_commit)
        strategy = state.strategy
        unmoved = constants_digest(strategy.parameters.values[layout.constants])
        self._orders = Orders(self._keys, spec, layout, strategy.sends, unmoved)
        self._payloads = payloads
        self._publisher = Publisher(
            client, self._keys, layout, timing, blobs_place, codec_name=spec.codec.down, clock=machine
        )
        self._board = StatusBoard(identity.campaign, spec, state, layout, timing, clock, on_progress)
        self._decisions = Decisions(broker, spec, state, self._transaction, evaluator, clock, timing)
        self._consequences = Consequences(
            broker, state, clock, timing, self._transaction, self._saver, self._history, self._feed, self._board,
            payloads, traces, kept_log,
        )  # fmt: skip
        self._look_after = look_after
        self._left_out: list[str] = []
        self._stalls = Stalls(broker, identity, state.position, machine)
        # A checkpoint of a large model costs more than an update of it: not after every one.
        self._log_bytes = max(spec.checkpoint.every_log_bytes, CHECKPOINT_UPDATES * 4 * layout.num_moving)
        self._covered_noted = False
        self._evictions = Evictions(client, machine)
        self._surveyor = Surveyor(
            identity, spec, state, self._transaction, clock, self._board, self._feed, self._dispatcher, self._stalls,
            self._evictions,
        )  # fmt: skip
        self._next_survey = self._next_status = 0.0
        self._log = log.bind(campaign=identity.campaign)

    # -- life ------------------------------------------------------------------------------------------------------

    def save_first(self) -> None:
        """Write the first checkpoint before anything is published: from then on the campaign can be resumed.

        Raises:
            CampaignError: it cannot be written.
        """
        self._save()
        self._saver.wait()
        if self._saver.failure is not None:
            raise CampaignError(self._saver.failure)

    def interrupt(self) -> None:
        """End soon, in a way that can be resumed (Ctrl-C). Safe to call from a signal handler."""
        self._decisions.interrupted.set()

    def run(self) -> dict[str, Any]:
        """Coordinate until the campaign ends, and return its summary.

        Raises:
            FencedOut: another coordinator took over.
            CampaignError: the evaluation cannot work, or a checkpoint cannot be written.
        """
        keeper = LeaseKeeper(self._writer)
        keeper.start()
        try:
            self._patiently(self._begin)
            while not self._is_done():
                if keeper.fenced_out:
                    raise FencedOut(
                        f"campaign {self._identity.campaign} has passed to another coordinator; this one ends."
                    )
                self._patiently(self._turn)
            return self._finish()
        except FencedOut:
            raise
        except FedtideError as error:
            self._tell_monitors_of_failure(error)
            raise
        finally:
            keeper.stop()
            self._payloads.close()
            self._saver.close()
            self._history.close()
            if self._kept_log is not None:
                self._kept_log.close()

    def _is_done(self) -> bool:
        # An event that was written but not read back may still change the phase: "resumed" does.
        all_read = self._transaction.sequence == self._state.sequence
        return all_read and (self._state.phase.is_over or self._state.phase == Phase.INTERRUPTED)

    def _begin(self) -> None:
        self._clock.read()
        self._timing.restore(self._broker.status().get("timing", {}))
        if self._reads_life_before:
            self._read_life_before()
        self._loss = self._loss or self._missing()
        try:
            self._recover()
        except LostData as loss:
            self._restore(loss)
        if self._state.num_entries:
            self._publisher.sweep()

    def _read_life_before(self) -> None:
        """What the log still has of the life before counts; then this one's first checkpoint covers it."""
        self._read_feed()
        self._payloads.recover()
        self._note_covered()
        self._replay()
        state = self._state
        state.begin_life(self._identity.secret)
        if self._kept_log is not None:
            self._kept_log.begin_life(self._identity.secret)
        state.position = max(state.position, self._broker.log_end(), key=order)
        self._stalls.forget(state.position)
        self._reads_life_before = False
        self.save_first()

    def _read_feed(self) -> None:
        covered = feed.covered_position(self._client, self._keys)
        latest = max(self._clock.server_ms(), order(self._state.position)[0]) + FUTURE_MS
        self._feed.resume_after(covered if order(covered)[0] <= latest else START)

    def _missing(self) -> LostData | None:
        """What the server lacks of what the checkpoint proves that it had."""
        campaign = self._identity.campaign
        if self._broker.incarnation() != self._identity.incarnation:
            return LostData(campaign, FORGOTTEN)
        if self._behind or order(self._broker.log_end()) < order(self._state.position):
            return LostData(campaign, OLDER)
        return None

    def _recover(self) -> None:
        """Bring the broker to where the log says that the campaign is: also after a crash or a loss of data."""
        self._roster.forget_silent()
        if self._loss is not None:
            self._register(self._loss)
        owners = self._broker.all_owners()  # before the log is read: who has answered by now is in it
        self._read_feed()
        self._payloads.recover()
        self._note_covered()
        replayed = self._replay()
        self._payloads.keep_only(self._saver.all_blobs())
        state, transaction = self._state, self._transaction
        self._clock.begin(state.timeline.clock_shift_ms, order(state.position)[0])
        self._tell_monitors_who_leads()
        transaction.go_on_from(state.sequence, state.ledger.issued)
        if state.sequence == 0:
            transaction.append("opened", {"spec": self._spec.digest(), "layout": self._layout.digest})
        elif state.phase == Phase.INTERRUPTED:
            transaction.append("resumed", {"control": ""})
        self._payloads.settle(transaction)
        self._publisher.publish(state.strategy, transaction)
        self._orders.forget()
        transaction.add(self._orders.commands(state.evaluations.num_plateaus))
        attempts = {self._identity.task_id(task.number): task.attempt for task in state.ledger.open.values()}
        stale = [
            name for name, row in owners.items() if row is None or row.delivered or attempts.get(name) != row.attempt
        ]
        transaction.add(self._broker.close_all_commands(stale))
        transaction.open(state.ledger.open.values())
        if self._loss is not None:
            transaction.ring(state.ledger.open.values())
        transaction.commit()
        self._loss = None
        self._about.pop("replaces", None)
        if replayed:
            self._log.info("resumed", replayed=replayed, version=state.strategy.version, out=state.ledger.out)

    def _note_covered(self) -> None:
        """Learn what the log still holds of entries that the checkpoint covers: they and their payloads are to go."""
        if self._covered_noted:
            return
        until, entries = order(self._state.position), scan(self._client, self._keys)
        rows = [
            (entry.position, entry.num_bytes, self._state.blob_of(entry))
            for entry in takewhile(lambda entry: order(entry.position) <= until, entries)
        ]
        for row in rows:
            self._saver.note_covered(*row)
        self._covered_noted = True

    def _replay(self) -> int:
        self._reader.position = self._state.position
        self._reader.control_position = self._state.control_position
        before = self._state.num_entries
        while entries := self._reader.read(wait_ms=0, max_entries=READ_ENTRIES)[0]:
            for entry in entries:
                self._apply(entry)
        # Requests are read again by the first turn: they become events there.
        self._reader.control_position = self._state.control_position
        self._transaction.clear()
        return self._state.num_entries - before

    def _register(self, loss: LostData) -> None:
        """Write down what the server must know of the campaign: at launch, in a new life, after a loss of data."""
        state, identity = self._state, self._identity
        if state.num_entries and not self._about.get("replaces"):
            self._log.warning(
                "the broker has forgotten the campaign's data; writing it again",
                reason=f"it {loss.how}{self._evictions.blame()}",
                version=state.strategy.version,
                missing="updates not yet read; their tasks are re-issued",
            )
        self._broker.register(
            identity.created_ms, identity.incarnation, redact(to_toml(self._spec)),
            position=state.position, control_position=state.control_position,
        )  # fmt: skip

    # -- one turn --------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        if self._loss is not None:  # the server went away while the campaign was being written again
            self._restore(self._loss)
        wait_ms = READ_WAIT_MS if self._transaction.is_empty else 0
        entries, requests = self._reader.read(wait_ms=wait_ms, max_entries=READ_ENTRIES)
        caught_up = len(entries) < READ_ENTRIES
        for index, entry in enumerate(entries):
            started = self._machine.monotonic()
            self._read_ahead(entries[index : index + 2])
            effects = self._apply(entry)
            self._consequences.time(entry, effects, self._machine.monotonic() - started)
            if effects.pinned is not None:
                self._publish()
                self._decisions.evaluate_pinned(effects.pinned, self._publisher.head)
        self._stalls.caught_up |= caught_up
        self._payloads.settle(self._transaction)
        for position, fields in requests:
            self._decisions.take_request(position, fields)
        self._decisions.take()
        self._publish()
        self._transaction.add(self._orders.commands(self._state.evaluations.num_plateaus))
        self._issue()
        now = self._machine.monotonic()
        if now >= self._next_status:
            self._next_status = now + STATUS_SECONDS
            self._write_status()
        self._feed_monitors()
        self._checkpoint_if_due()
        self._commit()
        if now >= self._next_survey:
            self._look_after()
            now = self._machine.monotonic()
            try:
                self._survey()
            except LostData as loss:
                self._restore(loss)
            took = self._machine.monotonic() - now
            self._next_survey = now + max(SURVEY_SECONDS, took / MAX_SURVEY_SHARE)
        self._decisions.ask_for_evaluation(self._publisher.published)

    def _publish(self) -> None:
        if self._state.strategy.version == self._publisher.published:
            return
        crash_point("between_merge_and_publish")
        if self._layout.num_bytes >= WORTH_A_THREAD_BYTES and (waiting := self._reader.peek()) is not None:
            self._read_ahead([waiting])  # beside the publishing
        self._publisher.publish(self._state.strategy, self._transaction)
        if self._publisher.is_crowded:
            self._publisher.drop_old(self._transaction)

    def _read_ahead(self, entries: list[LogEntry]) -> None:
        if self._layout.num_bytes >= WORTH_A_THREAD_BYTES:
            self._payloads.expect(*map(self._state.announced, entries))

    def _apply(self, entry: LogEntry) -> Effects:
        effects = self._patiently(lambda: self._state.apply(entry))
        self._consequences.carry(entry, effects)
        return effects

    def _issue(self) -> None:
        state, transaction = self._state, self._transaction
        if state.phase != Phase.RUNNING or self._decisions.stop_asked or self._saver.is_stuck(self._log_bytes):
            return
        pending = transaction.issued - state.ledger.issued
        if queues := self._dispatcher.plan(state.ledger, pending=pending, barrier=state.strategy.barrier):
            transaction.issue(queues)

    def _survey(self) -> None:
        self._surveyor.look()
        self._publisher.look()
        if self._publisher.is_led_astray(self._orders.written):
            self._orders.forget()
        self._publisher.drop_old(self._transaction)

    def _commit(self) -> None:
        try:
            if self._loss is None:
                self._transaction.commit()
                return
        except LostData as loss:
            self._loss = loss
        self._restore(self._loss)

    def _restore(self, loss: LostData) -> None:
        """The server has less of the campaign than this process: write it again, as often as it gets lost."""
        outage = Outage(self._machine)
        while True:
            self._loss = loss
            try:
                self._write_again(loss)
                return
            except LostData as again:
                loss = again
            if self._machine.wait(outage.next_pause(), self._decisions.interrupted):
                raise CampaignError(f"interrupted; the broker loses the campaign again and again. {loss}")

    def _write_again(self, loss: LostData) -> None:
        """From memory, which is ahead of any checkpoint."""
        retake_lease(self._writer, self._store.highest_fence(), self._decisions.interrupted, self._machine)
        if not self._state.accepts:  # only what is left of the end has to be written
            self._register(loss)
            self._publisher.publish(self._state.strategy, self._transaction, exact=True)
            self._transaction.commit()
            self._loss = None
            return
        self._transaction.clear()
        self._decisions.forget()
        self._stalls.forget(self._state.position)
        self._surveyor.wait_for_beats()
        self._recover()
        self._save()

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def _checkpoint_if_due(self) -> None:
        limits = self._spec.checkpoint
        self._trim()
        if self._saver.is_due(limits.every_merges, limits.every_seconds, self._log_bytes, self._state.ledger.merged):
            self._save()

    def _trim(self) -> None:
        covered = self._saver.take_covered(self._log_bytes)
        if covered is None:
            return
        crash_point("before_trim")
        self._stalls.trimmed = covered.position
        self._payloads.drop(covered.blobs, self._transaction)
        self._transaction.add_in_front(self._broker.trim_commands(covered.position))

    def _save(self) -> None:
        tensors, meta = self._state.export()
        identity = self._identity
        whole = {
            "state": meta,
            "identity": [identity.campaign, identity.secret, identity.incarnation, identity.created_ms],
            "spec": self._spec.model_dump(mode="json"),
            "layout": self._layout.to_map(),
            "history_bytes": self._history.num_bytes,
            "commits": self._writer.commits,
            **self._about,
            **({} if self._kept_log is None else {"kept_log": self._kept_log.parts}),
        }
        self._saver.save(tensors, whole, self._state.position, self._state.ledger.merged, before=self._sync)

    def _sync(self) -> None:
        if self._kept_log is not None:
            self._kept_log.sync()
        self._history.sync()

    # -- monitors --------------------------------------------------------------------------------------------------

    def _tell_monitors_who_leads(self) -> None:
        state, writer = self._state, self._writer
        seconds = state.timeline.seconds(self._clock.now_ms()) if state.timeline.opened_ms else 0.0
        event = "took_over" if writer.predecessor else "resumed" if state.sequence else "launched"
        led_before = writer.predecessor or None
        self._feed.tell(
            CoordinatorLine(
                seconds=seconds, event=event, holder=writer.token, fence=writer.fence, predecessor=led_before
            )
        )
        writer.predecessor = ""

    def _feed_monitors(self, *, flush: bool = False) -> None:
        state = self._state
        if state.timeline.opened_ms:
            seconds = state.timeline.seconds(self._clock.now_ms())
            self._transaction.add(self._feed.commands(self._writer.fence, state.position, seconds, flush=flush))

    def _write_status(self) -> None:
        status = self._board.write(self._saver.age_seconds)
        self._transaction.add(self._broker.status_commands(status))

    def _tell_monitors_of_failure(self, error: FedtideError) -> None:
        """Otherwise they show what was true before, for good. Whatever comes in between: the error itself is told."""
        if self._decisions.interrupted.is_set():
            return
        with contextlib.suppress(Exception):
            status = self._board.write(self._saver.age_seconds, failure=str(error))
            self._writer.commit(self._identity.incarnation, self._broker.status_commands(status))

    # -- the end ---------------------------------------------------------------------------------------------------

    def _finish(self) -> dict[str, Any]:
        state = self._state
        crash_point("before_last_publish")
        self._patiently(lambda: self._publisher.publish(state.strategy, self._transaction, exact=True))
        self._patiently(self._commit)
        crash_point("before_last_evaluation")
        self._evaluate_last_version()
        crash_point("before_last_checkpoint")
        self._save_last()
        crash_point("after_last_checkpoint")
        state.ledger.verify()
        summary = self._board.summarise()
        if self._left_out:
            summary["left_out"] = self._left_out
        write_results(self._folder, self._identity, state, self._layout, self._beside, summary)
        self._patiently(self._clear_broker)
        return summary

    def _save_last(self) -> None:
        """The last checkpoint: nothing is dropped before it is durable, and a full disk is given a little time."""
        deadline = self._machine.monotonic() + DISK_SECONDS
        while True:
            self._save()
            self._saver.wait()
            if self._saver.failure is None:
                return
            if (
                self._machine.wait(DISK_PAUSE_SECONDS, self._decisions.interrupted)
                or self._machine.monotonic() > deadline
            ):
                raise CampaignError(f"{self._saver.failure} Nothing is lost; go on with --resume then.")

    def _evaluate_last_version(self) -> None:
        evaluator, deadline = self._evaluator, self._machine.monotonic() + FINAL_EVALUATION_SECONDS
        if evaluator is None:
            return
        asked = False
        while self._state.scores.version != self._state.delivery.version(self._state.strategy):
            if evaluator.error is not None or self._machine.monotonic() > deadline:
                reason = evaluator.error or f"it took longer than {FINAL_EVALUATION_SECONDS:.0f} s"
                self._log.warning("the last version was not evaluated", reason=reason)
                self._left_out.append(f"the evaluation of the last version: {reason}")
                return
            if not evaluator.busy and not asked:
                asked = True
                self._decisions.evaluate_now(evaluator)
            self._patiently(self._turn)
            if asked and not evaluator.busy and self._transaction.is_empty:
                asked = self._state.scores.version == self._state.delivery.version(self._state.strategy)

    def _clear_broker(self) -> None:
        """Leave nothing behind that others would pay for: doorbells, and after the end the campaign's bulky keys."""
        dispatch, transaction = self._spec.dispatch, self._transaction
        self._trim()
        self._payloads.forget_all()  # the last checkpoint covers them
        crash_point("spool_removed")
        remove_doorbells(self._client, self._identity.campaign, dispatch.queues, limit=4 * dispatch.concurrency)
        crash_point("doorbells_removed")
        self._feed_monitors(flush=True)
        self._write_status()
        if self._state.phase.is_over:
            transaction.add(feed.expire_commands(self._keys))
            self._publisher.drop_old(transaction, kept=0)
            self._publisher.drop_all()
            leftovers.forget_expired(self._client, self._broker.clock_ms() - feed.KEEP_SECONDS * 1000)
            self._payloads.drop(self._saver.all_blobs(), transaction)
            transaction.add(self._broker.end_commands())
        crash_point("before_end_commit")
        self._commit()
        crash_point("before_release")
        self._writer.release()

    # -- patience --------------------------------------------------------------------------------------------------

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do something that needs the broker, again and again while it is away."""
        outage: Outage | None = None
        while True:
            try:
                result = action()
            except BrokerUnavailable as error:
                outage = outage or Outage(self._machine)
                self._wait_out(outage, error)
                continue
            except BrokerUnfit as error:
                self._mend(error)
                continue
            if outage is not None:
                self._note_server()
                self._log.info("the broker is back", away_seconds=round(outage.seconds, 1))
            return result

    def _note_server(self) -> None:
        """It may be another one, or have been started anew: what it has now it will have as long as it runs."""
        with contextlib.suppress(BrokerUnavailable):  # then a resume takes it for restarted, which is never wrong
            self._about["server"] = self._broker.server_run()

    def _wait_out(self, outage: Outage, error: BrokerUnavailable) -> None:
        if outage.is_worth_a_word():
            self._log.warning("waiting for the broker", reason=str(error), seconds=round(outage.seconds))
        if self._machine.wait(outage.next_pause(), self._decisions.interrupted):
            raise CampaignError(f"interrupted while the broker was away; go on with --resume. {error}") from error
        self._look_after()
        # A restarted server may have lost its last moments, which were applied here: cover them with a checkpoint.
        self._saver.hurry()
        # Everybody's beat is old now; workers need time to come back before silence means anything.
        self._surveyor.wait_for_beats()

    def _mend(self, error: BrokerUnfit) -> None:
        """Somebody has written over our keys: take them back, and restore what they held like any other loss.

        Raises:
            BrokerUnfit: it is not that.
        """
        queues = self._spec.dispatch.queues
        if not (strange := self._patiently(lambda: drop_strangers(self._client, self._keys, queues))):
            raise error
        self._log.warning("somebody else has written over keys of fedtide's; they are dropped", keys=strange)
        self._loss = LostData(self._identity.campaign, "held something else under the campaign's keys")
