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

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgpack
import numpy as np
import structlog

from coordinator.admission import Admitted, Refused
from coordinator.buckets import staleness_histogram
from coordinator.checkpoint import CheckpointStore
from coordinator.crash_points import crash_point
from coordinator.dispatcher import Dispatcher
from coordinator.evaluator import Evaluator
from coordinator.feed import Feed
from coordinator.history import History
from coordinator.lease_keeper import LeaseKeeper
from coordinator.ledger import OpenTask, task_id
from coordinator.outage import Outage
from coordinator.run_folder import RunFolder
from coordinator.saver import Covered, Saver
from coordinator.state import CampaignState, Effects, Phase
from coordinator.summary import summarise
from coordinator.timing import Timing
from fl_core.broker import blobs, feed, versions
from fl_core.broker.campaign import CampaignBroker, OpenRow, Parked
from fl_core.broker.connection import Client
from fl_core.broker.doorbell import Doorbell
from fl_core.broker.lease import Command, LostData, Writer
from fl_core.broker.log import LogEntry, LogReader
from fl_core.broker.roster import Roster
from fl_core.errors import BrokerUnavailable, CampaignError, FencedOut
from fl_core.layout import Layout
from fl_core.messages import CampaignEvent, TrainTask
from fl_core.spec import CampaignSpec, to_toml

log = structlog.get_logger()

READ_WAIT_MS = 100
READ_ENTRIES = 64
SURVEY_SECONDS = 1.0
STATUS_SECONDS = 0.5
KEPT_VERSIONS = 3
RETURN_SECONDS = 4.0
FINAL_EVALUATION_SECONDS = 120.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Identity:
    """What names a campaign and proves who coordinates it. ``secret`` never leaves the coordinator's side."""

    campaign: str
    secret: bytes
    epoch: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What a display shows of a running campaign."""

    summary: Mapping[str, Any]
    live_workers: int
    claimed: int
    buffered: int
    updates_per_second: float


class Coordinator:
    """Runs one campaign from wherever its state stands to its end.

    Args:
        client: the broker's data connection, used by this thread alone.
        folder: where the run's files go.
        store: where checkpoints go.
        identity, spec, state, layout: the campaign.
        writer: the lease, already held.
        evaluator: None when the spec names no evaluation data.
        history_bytes: where the history stood when ``state`` was saved.
        on_progress: called a few times a second.
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
        writer: Writer,
        evaluator: Evaluator | None,
        history_bytes: int,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._client = client
        self._broker = CampaignBroker(client, identity.campaign)
        self._keys = self._broker.keys
        self._folder = folder
        self._identity = identity
        self._spec = spec
        self._state = state
        self._layout = layout
        self._writer = writer
        self._evaluator = evaluator
        self._on_progress = on_progress
        self._history = History(folder.history, history_bytes)
        self._doorbell = Doorbell()
        self._roster = Roster(client)
        self._dispatcher = Dispatcher(self._broker, self._roster, identity.campaign, spec.dispatch, self._identify)
        self._reader = LogReader(client, self._keys, state.position, state.control_position)
        self._saver = Saver(store, writer)
        self._feed = Feed(self._keys)
        self._timing = Timing()
        self._commands: list[Command] = []
        self._to_ring: list[OpenTask] = []
        self._issued_sent = 0
        self._sequence = 0
        self._published = -1
        self._evaluated = -1
        self._evaluation_asked = 0.0
        self._interrupted = threading.Event()
        self._judge_workers_after = 0.0
        self._clock_offset_ms = 0.0
        self._next_survey = self._next_status = 0.0
        self._live_workers = self._claimed = 0
        self._merge_times: deque[tuple[float, int]] = deque()
        self._stop_asked = False
        self._log = log.bind(campaign=identity.campaign)

    # -- life ------------------------------------------------------------------------------------------------------

    def save_first(self) -> None:
        """Write the first checkpoint before anything is published: from then on the campaign can be resumed."""
        self._save()
        self._saver.wait()

    def interrupt(self) -> None:
        """End soon, in a way that can be resumed (Ctrl-C). Safe to call from a signal handler."""
        self._interrupted.set()

    def run(self) -> dict[str, Any]:
        """Coordinate until the campaign ends, and return its summary.

        Raises:
            FencedOut: another coordinator took over.
            CampaignError: the evaluation cannot work, or a checkpoint cannot be written.
        """
        keeper = LeaseKeeper(self._writer)
        keeper.start()
        try:
            self._patiently(self._recover)
            if self._evaluator is not None:
                self._evaluator.start()
            while not self._is_done():
                if keeper.lost:
                    raise FencedOut(
                        f"campaign {self._identity.campaign} has passed to another coordinator; this one ends."
                    )
                self._patiently(self._turn)
            return self._finish()
        finally:
            keeper.stop()
            self._saver.close()
            self._history.close()

    def _is_done(self) -> bool:
        # An event that was written but not read back may still change the phase: "resumed" does.
        all_read = self._sequence == self._state.sequence
        return all_read and (self._state.phase.is_over or self._state.phase == Phase.INTERRUPTED)

    def _recover(self) -> None:
        """Bring the broker to where the log says that the campaign is: also after a crash or a loss of data."""
        self._read_clock()
        self._roster.forget_silent()
        if self._broker.epoch() != self._identity.epoch:
            self._register(lost=self._state.position != "0-0")
        self._feed.resume_after(feed.covered_position(self._client, self._keys))
        replayed = self._replay()
        state = self._state
        self._timing.restore(self._broker.status().get("timing", {}))
        self._tell_monitors_who_leads()
        self._sequence = state.sequence
        self._issued_sent = state.ledger.issued
        if state.sequence == 0:
            self._append("opened", {"spec": self._spec.digest(), "layout": self._layout.digest})
        elif state.phase == Phase.INTERRUPTED:
            self._append("resumed", {"control": ""})
        self._publish()
        self._commands += self._broker.close_all_commands()
        self._open(state.ledger.open.values())
        self._commit()
        if replayed:
            self._log.info("resumed", replayed=replayed, version=state.strategy.version, out=state.ledger.out)

    def _replay(self) -> int:
        self._reader.position = self._state.position
        self._reader.control_position = self._state.control_position
        before = self._state.num_entries
        while entries := self._reader.read(wait_ms=0, max_entries=READ_ENTRIES)[0]:
            for entry in entries:
                self._apply(entry)
        # Requests are read again by the first turn: they become events there.
        self._reader.control_position = self._state.control_position
        self._commands.clear()
        self._to_ring.clear()
        return self._state.num_entries - before

    def _register(self, *, lost: bool) -> None:
        """Write down what the server must know of the campaign: at launch, and after it lost its data."""
        if lost:
            self._log.warning(
                "the broker has lost the campaign's data; restoring it",
                version=self._state.strategy.version,
                lost="updates not yet read; their tasks are re-issued",
            )
        self._broker.register(self._identity.created_ms, self._identity.epoch, to_toml(self._spec))

    # -- one turn --------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        entries, requests = self._reader.read(wait_ms=self._wait_ms(), max_entries=READ_ENTRIES)
        for entry in entries:
            started = time.perf_counter()
            if (admitted := self._apply(entry).admitted) is not None:
                self._time_update(entry, admitted, time.perf_counter() - started)
        for position, fields in requests:
            self._take_request(position, fields)
        self._take_decisions()
        if self._state.strategy.version != self._published:
            crash_point("between_merge_and_publish")
            self._publish()
        self._issue()
        now = time.monotonic()
        if now >= self._next_status:
            self._next_status = now + STATUS_SECONDS
            self._write_status()
        self._feed_monitors()
        self._checkpoint_if_due()
        self._commit()
        if now >= self._next_survey:
            self._next_survey = now + SURVEY_SECONDS
            self._survey()
        self._ask_for_evaluation()

    def _wait_ms(self) -> int:
        return 0 if self._commands or self._to_ring else READ_WAIT_MS

    def _apply(self, entry: LogEntry) -> Effects:
        effects = self._patiently(lambda: self._state.apply(entry))
        self._saver.note(entry, effects.blob)
        self._project(effects)
        if effects.history:
            self._history.append(effects.history)
            self._feed.add(entry.position, effects.history)
        for refused in effects.refusals if self._state.accepts else ():
            self._commands += self._broker.park_commands(parked_of(refused, entry))
        for merge in effects.merges:
            self._merge_times.append((time.monotonic(), merge.num_updates))
        self._tell(effects)
        return effects

    def _project(self, effects: Effects) -> None:
        """Carry an entry's consequences to the broker with the next commit."""
        if effects.closed:
            self._commands += self._broker.close_commands([self._identify(number) for number in effects.closed])
        if effects.reopened:
            self._open(effects.reopened)
            self._to_ring += effects.reopened

    def _tell(self, effects: Effects) -> None:
        for refused in effects.refusals:
            known = refused.update
            # What comes after the end was overtaken by it; that is no fault of anybody.
            tell = self._log.warning if self._state.accepts else self._log.debug
            tell(
                "update rejected",
                reason=refused.reason.value,
                detail=refused.detail,
                worker=known.worker if known else None,
                task=known.task_id if known else None,
            )
        if effects.failure is not None:
            report = effects.failure
            self._log.warning("training failed", worker=report.worker, task=report.task_id, detail=report.detail)

    def _take_request(self, position: str, fields: Mapping[bytes, bytes]) -> None:
        body = {"control": position}
        match fields.get(b"request", b"").decode(errors="replace"):
            case "pause":
                self._append("paused", body)
            case "resume":
                self._append("resumed", body)
            case "stop":
                self._append("stopped", {"reason": "asked", **body})
            case "readmit":
                self._readmit(fields.get(b"argument", b"").decode(errors="replace"), position)
            case other:
                self._log.warning("unknown request", request=other)

    def _readmit(self, position: str, control: str) -> None:
        parked = self._broker.parked(position)
        body: dict[str, Any] = {"task": 0, "reason": "", "header": b"", "payload": b""}
        if parked is None or parked.task is None or not parked.has_payload:
            self._log.warning("cannot be readmitted", parked=position, reason="gone, too large, or ended no task")
        else:
            body = {"task": parked.task, "reason": parked.reason, "header": parked.header, "payload": parked.payload}
            self._commands += self._broker.unpark_commands(position)
        # The request is answered in any case: it must not be taken again after a crash.
        self._append("readmitted", {"control": control, **body})

    def _take_decisions(self) -> None:
        """Turn what the outside says (results, time, Ctrl-C) into events."""
        if self._evaluator is not None:
            if self._evaluator.error is not None and not self._stop_asked:
                raise CampaignError(self._evaluator.error)
            for result in self._evaluator.take_results():
                self._timing.add_evaluation(time.monotonic() - self._evaluation_asked)
                body = {"version": result.version, "loss": result.loss, "accuracy": result.accuracy}
                self._append("evaluated", {**body, "num_examples": result.num_examples})
        if self._stop_asked or not self._state.opened_ms:
            return
        limit = self._spec.stop.seconds
        if self._interrupted.is_set():
            self._stop_asked = True
            self._append("interrupted", {"control": ""})
        elif limit is not None and self._now_ms() - self._state.opened_ms >= limit * 1000:
            self._stop_asked = True
            self._append("stopped", {"reason": "seconds", "control": ""})

    def _issue(self) -> None:
        state = self._state
        if state.phase != Phase.RUNNING or self._stop_asked:
            return
        pending = self._issued_sent - state.ledger.issued
        queues = self._dispatcher.plan(state.ledger, pending=pending, barrier=state.strategy.barrier)
        if not queues:
            return
        now_ms = self._now_ms()
        tasks = [OpenTask(self._issued_sent + 1 + i, 1, 0, queue, now_ms) for i, queue in enumerate(queues)]
        self._issued_sent += len(tasks)
        self._append("issued", {"queues": queues})
        self._open(tasks)
        self._to_ring += tasks

    def _survey(self) -> None:
        self._read_clock()
        ledger = self._state.ledger
        self._live_workers = self._dispatcher.look_at_queues()
        judge = time.monotonic() >= self._judge_workers_after
        if judge and self._state.opened_ms:
            self._feed.note_workers(self._dispatcher.present, self._state.seconds(self._now_ms()))
        survey = self._dispatcher.survey(ledger, now_ms=self._now_ms(), judge_workers=judge)
        self._claimed = survey.claimed
        for task, queue, reason in survey.lost:
            self._log.warning("task lost", task=self._identify(task.number), attempt=task.attempt, reason=reason)
            body = {"task": task.number, "attempt": task.attempt, "queue": queue, "reason": reason}
            self._append("reissued", body)
        if survey.silent and self._state.phase == Phase.RUNNING:
            self._log.info("ringing again", tasks=len(survey.silent))
            self._to_ring += survey.silent
        for version, num_bytes in versions.droppable(self._client, self._keys, KEPT_VERSIONS):
            self._commands += versions.drop_commands(self._keys, version, num_bytes)

    # -- publishing ------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        started, strategy = time.perf_counter(), self._state.strategy
        payload = strategy.parameters.values.view(np.uint8).data
        head = versions.write_version(self._client, self._keys, strategy.version, payload)
        self._commands += versions.publish_commands(self._keys, head)
        self._published = strategy.version
        self._timing.add_publish(time.perf_counter() - started)

    def _open(self, tasks: Iterable[OpenTask]) -> None:
        rows = [OpenRow(self._identify(t.number), t.attempt, t.issued_ms, t.queue) for t in tasks]
        self._commands += self._broker.open_commands(rows)

    def _append(self, kind: str, body: Mapping[str, Any]) -> None:
        self._sequence += 1
        event = CampaignEvent(campaign=self._identity.campaign, sequence=self._sequence, kind=kind, body=body)
        self._commands += self._broker.event_commands(self._identity.secret, event.to_bytes())

    def _commit(self) -> None:
        """Write what the turn decided as one transaction, doorbells last.

        It may be repeated when the answer is lost: events are numbered, a second doorbell is void, the rest is
        idempotent.
        """
        if self._to_ring:
            self._commands += self._doorbell.commands(map(self._order, self._to_ring), self._now_ms())
            self._to_ring = []
        if not self._commands:
            return
        crash_point("before_commit")
        try:
            self._writer.commit(self._identity.epoch, self._commands)
        except LostData:
            self._after_data_loss()
            return
        self._commands = []
        crash_point("after_commit")

    def _after_data_loss(self) -> None:
        """The server has forgotten the campaign: write it again from memory, which is ahead of any checkpoint."""
        if self._state.phase.is_over:
            self._commands.clear()  # the end was written, only the answer got lost
            return
        if not self._writer.acquire(self._writer.fence):
            raise FencedOut(f"campaign {self._identity.campaign} has passed to another coordinator; this one ends.")
        self._commands.clear()
        self._to_ring.clear()
        self._stop_asked = False
        self._saver.forget_log()
        self._judge_workers_after = time.monotonic() + self._spec.dispatch.lease_seconds + RETURN_SECONDS
        self._recover()
        self._save()

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def _checkpoint_if_due(self) -> None:
        limits = self._spec.checkpoint
        if covered := self._saver.take_covered():
            crash_point("before_trim")
            self._trim(covered)
        if self._saver.is_due(
            limits.every_merges, limits.every_seconds, limits.every_log_bytes, self._state.ledger.merged
        ):
            self._save()

    def _save(self) -> None:
        tensors, meta = self._state.export()
        copies = {name: np.array(array) for name, array in tensors.items()}
        identity = self._identity
        self._history.sync()
        whole = {
            "state": meta,
            "identity": [identity.campaign, identity.secret, identity.epoch, identity.created_ms],
            "spec": self._spec.model_dump(mode="json"),
            "layout": self._layout.to_map(),
            "history_bytes": self._history.num_bytes,
        }
        self._saver.save(copies, whole, self._state.position, self._state.ledger.merged)

    def _trim(self, covered: Covered) -> None:
        if self._spec.checkpoint.keep_log:
            return
        # In front: a server that is out of memory runs a transaction only if it begins by freeing some.
        self._commands[:0] = self._broker.trim_commands(covered.position, covered.blobs)

    # -- monitors --------------------------------------------------------------------------------------------------

    def _tell_monitors_who_leads(self) -> None:
        state, writer = self._state, self._writer
        seconds = state.seconds(self._now_ms()) if state.opened_ms else 0.0
        event = "resumed" if state.sequence else "launched"
        self._feed.add_event("coordinator", seconds, event=event, holder=writer.token, fence=writer.fence)

    def _time_update(self, entry: LogEntry, admitted: Admitted, merge_seconds: float) -> None:
        update = admitted.update
        self._feed.add_training(update.worker, update.seconds.get("train", 0.0))
        self._timing.add_update(
            update.seconds,
            life_seconds=(entry.milliseconds - admitted.task.issued_ms) / 1000,
            log_seconds=(self._now_ms() - entry.milliseconds) / 1000 - merge_seconds,
            merge_seconds=merge_seconds,
        )

    def _feed_monitors(self, *, flush: bool = False) -> None:
        state = self._state
        if state.opened_ms:
            seconds = state.seconds(self._now_ms())
            self._commands += self._feed.commands(self._writer.fence, state.position, seconds, flush=flush)

    # -- evaluation, status ----------------------------------------------------------------------------------------

    def _ask_for_evaluation(self) -> None:
        if self._evaluator is None or self._evaluator.busy or self._state.phase not in (Phase.RUNNING, Phase.PAUSED):
            return
        if self._evaluated < 0 or self._published >= self._evaluated + self._spec.evaluation.every_versions:
            self._evaluated = self._published
            self._evaluation_asked = time.monotonic()
            self._evaluator.request()

    def _summarise(self) -> dict[str, Any]:
        return summarise(self._identity.campaign, self._spec, self._state, self._layout, now_ms=self._now_ms())

    def _write_status(self) -> None:
        summary = self._summarise()
        now = time.monotonic()
        while self._merge_times and self._merge_times[0][0] < now - 5:
            self._merge_times.popleft()
        rate = sum(count for _, count in self._merge_times) / 5
        progress = Progress(summary, self._live_workers, self._claimed, self._state.strategy.buffer_count, rate)
        status = {
            **summary,
            "live_workers": progress.live_workers,
            "claimed": progress.claimed,
            "buffered": progress.buffered,
            "buffer_size": self._spec.aggregation.buffer_size,
            "recent_updates_per_second": round(rate, 2),
            "checkpoint_age_seconds": round(self._saver.age_seconds, 1),
            "written_ms": self._now_ms(),
            "queues": list(self._spec.dispatch.queues),
            "concurrency": self._spec.dispatch.concurrency,
            "stop": self._spec.stop.model_dump(mode="json", exclude_none=True),
            "staleness_histogram": staleness_histogram(self._state.staleness.items()),
            "timing": self._timing.export(),
        }
        self._commands += self._broker.status_commands(msgpack.packb(status))
        self._on_progress(progress)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _finish(self) -> dict[str, Any]:
        self._patiently(self._publish)
        self._patiently(self._commit)
        self._evaluate_last_version()
        self._save()
        self._saver.wait()
        state = self._state
        state.ledger.verify()
        summary = self._summarise()
        summary["model_digest"] = blobs.digest(state.strategy.parameters.values.view(np.uint8).data)
        metadata = {"campaign": self._identity.campaign, "version": str(state.strategy.version)}
        self._folder.write_model(state.strategy.parameters, self._layout, metadata)
        self._folder.write_summary(summary)
        self._patiently(self._clear_broker)
        return summary

    def _evaluate_last_version(self) -> None:
        evaluator, deadline = self._evaluator, time.monotonic() + FINAL_EVALUATION_SECONDS
        if evaluator is None:
            return
        asked = False
        while self._state.scores.version != self._state.strategy.version:
            if evaluator.error is not None or time.monotonic() > deadline:
                self._log.warning("the last version was not evaluated", reason=evaluator.error or "it took too long")
                return
            if not evaluator.busy and not asked:
                asked = True
                self._evaluation_asked = time.monotonic()
                evaluator.request()
            self._patiently(self._turn)
            if asked and not evaluator.busy and not self._commands:
                asked = self._state.scores.version == self._state.strategy.version

    def _clear_broker(self) -> None:
        """Leave nothing behind that others would pay for: doorbells, and after the end the campaign's bulky keys."""
        dispatch, keep_log = self._spec.dispatch, self._spec.checkpoint.keep_log
        self._broker.remove_doorbells(dispatch.queues, limit=4 * dispatch.concurrency)
        self._feed_monitors(flush=True)
        self._write_status()
        if self._state.phase.is_over:
            self._commands += feed.expire_commands(self._keys)
            for version, num_bytes in versions.droppable(self._client, self._keys, 0):
                self._commands += versions.drop_commands(self._keys, version, num_bytes)
            if not keep_log:
                self._commands += self._broker.drop_payload_commands(self._saver.all_blobs())
            self._commands += self._broker.end_commands(keep_log=keep_log)
        self._commit()
        self._writer.release()

    # -- patience --------------------------------------------------------------------------------------------------

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do something that needs the broker, again and again while it is away."""
        outage: Outage | None = None
        while True:
            try:
                result = action()
            except BrokerUnavailable as error:
                outage = outage or Outage()
                self._wait_out(outage, error)
                continue
            if outage is not None:
                self._log.info("the broker is back", away_seconds=round(outage.seconds, 1))
            return result

    def _wait_out(self, outage: Outage, error: BrokerUnavailable) -> None:
        if outage.is_worth_a_word():
            self._log.warning("waiting for the broker", reason=str(error), seconds=round(outage.seconds))
        if self._interrupted.wait(outage.next_pause()):
            raise CampaignError(f"interrupted while the broker was away; go on with --resume. {error}") from error
        # A restarted server may have lost its last moments, which were applied here: cover them with a checkpoint.
        self._saver.hurry()
        # Everybody's beat is old now; workers need time to come back before silence means anything.
        self._judge_workers_after = time.monotonic() + self._spec.dispatch.lease_seconds + RETURN_SECONDS

    def _identify(self, number: int) -> str:
        return task_id(self._identity.secret, number)

    def _order(self, task: OpenTask) -> TrainTask:
        spec = self._spec
        return TrainTask(
            campaign=self._identity.campaign,
            task_id=self._identify(task.number),
            attempt=task.attempt,
            queue=task.queue,
            timeout_seconds=spec.dispatch.task_timeout_seconds,
            model_factory=spec.model.factory,
            model_args=spec.model.args,
            layout_digest=self._layout.digest,
            training=spec.training.model_dump(mode="json"),
            codec=spec.codec.name,
            codec_args=spec.codec.args,
            sends=self._state.strategy.sends,
        )

    def _read_clock(self) -> None:
        self._clock_offset_ms = self._broker.clock_ms() - time.monotonic() * 1000

    def _now_ms(self) -> int:
        """The server's clock, as of the last survey."""
        return round(time.monotonic() * 1000 + self._clock_offset_ms)


def parked_of(refused: Refused, entry: LogEntry) -> Parked:
    """What is kept of a rejected update for inspection."""
    update = refused.update
    return Parked(
        reason=refused.reason.value,
        detail=refused.detail,
        worker=update.worker if update else "",
        task=refused.task.number if refused.task else None,
        header=entry.header,
        payload=entry.payload,
        payload_bytes=update.payload_bytes if update else len(entry.payload),
        milliseconds=entry.milliseconds,
    )
