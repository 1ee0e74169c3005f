"""A campaign's state as a pure function of its update log.

Whatever decides the campaign's course is an entry of the log: updates and reports from workers, and the coordinator's
own decisions as events. ``CampaignState.apply`` takes the entries one by one and never looks at a clock, at the broker
or at chance, so a coordinator that died is rebuilt, to the same bit, by applying the log again from a checkpoint.

=============  ========================================================================================================
event          body
=============  ========================================================================================================
opened         spec: digest of the spec; layout: digest of the model's layout
issued         queues: one name per new task
reissued       task, attempt (the one given up), queue, reason (``lost``, ``deadline``, ``no_answer``,
               ``no_worker``, ``payload_lost``)
evaluating     nothing: what the model is now is going to be evaluated, and may be what is delivered
evaluated      version, loss, metrics: name -> number or nil, num_examples; an earlier release wrote accuracy (or nil)
               in the place of metrics
paused, resumed, interrupted   control: position of the operator's request, or empty
stopped        reason, control
clock          shift_ms: add this to the positions' times from here on (``fl_core/broker/clock.py``)
merge_due      version: what waits in the buffer is merged, if this still is the version
readmitted     control, task, reason (of its rejection), header, payload: an update taken back out of quarantine
=============  ========================================================================================================
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from typing import Any

from coordinator.campaign.admission import Admission, Lost, Refused
from coordinator.campaign.delivery import Delivery
from coordinator.campaign.effects import Effects
from coordinator.campaign.fruitless import Fruitless, Place, place_of
from coordinator.campaign.guard import Guard
from coordinator.campaign.ledger import Ledger, OpenTask, task_number
from coordinator.campaign.scores import Scores, finite
from fl_core.aggregation import Contribution, Merge, Strategy
from fl_core.aggregation.buffered import with_prefix
from fl_core.errors import BrokerUnavailable, InvariantError, Reason, RejectedUpdate
from fl_core.spec import CampaignSpec
from fl_core.vectors.layout import Layout
from fl_core.wire.events import CampaignEvent
from fl_core.wire.log_entry import LogEntry, is_authentic, order
from fl_core.wire.messages import ModelUpdate, TaskReport

DEVICE_SCORES = ("personal_accuracy", "personal_loss", "global_accuracy", "global_loss")


MAX_SCORED_DEVICES = 10_000


# Devices say how much they fetched. A sum that no double holds exactly is of no use to anybody, and one of more than
# 64 bits cannot be written into a checkpoint.
MAX_TOTAL_BYTES = 2**53


# Of what a device says of a task it could not do; the log of the coordinator has all of it.
MAX_SAID_CHARACTERS = 300


class Phase(enum.StrEnum):
    """Where a campaign is in its life."""

    RUNNING = "running"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"
    STOPPED = "stopped"

    @property
    def is_over(self) -> bool:
        """Nothing more will be merged, ever."""
        return self in (Phase.FINISHED, Phase.STOPPED)


class CampaignState:
    """Everything that a checkpoint has to hold.

    Args:
        campaign, spec, secret: the campaign's own.
        strategy: at version 0, or restored.
        admission: the checks that updates pass.

    Attributes:
        position: the last entry applied.
        sequence: the last event applied.
        control_position: the last operator's request that became an event.
        clock_shift_ms: what positions' times are corrected by, because the server's clock was set.
    """

    def __init__(
        self,
        campaign: str,
        spec: CampaignSpec,
        secret: bytes,
        strategy: Strategy,
        admission: Admission,
        layout: Layout,
    ) -> None:
        self._campaign = campaign
        self._spec = spec
        self._secret = secret
        self._admission = admission
        self._layout = layout
        self.guard = Guard(
            spec.guard,
            evaluated=spec.evaluation.data is not None,
            higher=spec.guard.metric is not None and spec.is_higher_better(spec.guard.metric),
        )
        self.delivery = Delivery()
        self.strategy = strategy
        self.ledger = Ledger()
        self.phase = Phase.RUNNING
        self.stop_reason = ""
        self.stop_target = ""
        self.position = "0-0"
        self.sequence = 0
        self.control_position = "0-0"
        self.clock_shift_ms = 0
        self.opened_ms = 0
        self.ended_ms = 0
        self.scores = Scores()
        self.fruitless = Fruitless(spec)
        self.staleness: Counter[int] = Counter()
        self.merged_by_worker: Counter[str] = Counter()
        self.bytes_up = 0
        self.bytes_down = 0
        self.num_entries = 0
        self.num_plateaus = 0
        self._flat_evaluations = 0
        self.device_scores: dict[str, dict[str, float]] = {}
        self.buffered_since_ms = 0
        self._buffered_workers: list[str] = []
        self._half_applied = ""

    def begin_life(self, secret: bytes) -> None:
        """The log goes on under another secret: what comes under the one before counts for nothing."""
        self._secret = secret
        self._admission.begin_life(secret)

    # -- reading ---------------------------------------------------------------------------------------------------

    def moment(self, entry: LogEntry) -> int:
        """When an entry that is applied now was written, in campaign time (ms)."""
        return entry.milliseconds + self.clock_shift_ms

    def seconds(self, moment_ms: int) -> float:
        """Seconds since the campaign was opened."""
        return round(max(0, moment_ms - self.opened_ms) / 1000, 3)

    @property
    def accepts(self) -> bool:
        """Whether updates are still merged: a paused campaign takes late ones, an ended one does not."""
        return self.phase in (Phase.RUNNING, Phase.PAUSED)

    def announced(self, entry: LogEntry) -> tuple[str, int] | None:
        """Name and size of the payload that applying this entry will ask for, if any."""
        return self._admission.announced(entry, self.ledger, self.strategy) if self.accepts else None

    def blob_of(self, entry: LogEntry) -> tuple[str, int] | None:
        """Name and size of the blob that an entry names; whatever became of its update."""
        return self._admission.blob_of(entry, self.strategy)

    # -- applying --------------------------------------------------------------------------------------------------

    def apply(self, entry: LogEntry) -> Effects:
        """Take one entry in.

        Raises:
            BrokerUnavailable: a payload could not be read; nothing has changed, apply the same entry again.
            UserCodeError: a strategy or a codec of the user's own raised, perhaps in the middle of a merge. The entry
                does not count, and this object is of no use any more: go on from a checkpoint.
        """
        self._verify_whole()
        effects = Effects()
        try:
            match entry.kind:
                case "u":
                    self._apply_update(entry, effects)
                case "r":
                    self._apply_report(entry, effects)
                case "e":
                    self._apply_event(entry, effects)
                case _:
                    self._refuse(RejectedUpdate(Reason.MALFORMED, "the log entry has no known field"), entry, effects)
        except BrokerUnavailable:
            raise
        except BaseException:
            self._half_applied = entry.position
            raise
        self.position = entry.position
        self.num_entries += 1
        return effects

    def _verify_whole(self) -> None:
        if self._half_applied:
            raise InvariantError(f"log entry {self._half_applied} was applied in part; this state must not be kept")

    def _apply_update(self, entry: LogEntry, effects: Effects) -> None:
        try:
            admitted = self._admission.admit(entry, self.ledger, self.strategy, self.guard)
        except Refused as refused:
            self._refuse(refused, entry, effects)
            self._close_cohort(entry, effects)
            return
        except Lost as lost:
            effects.lost = lost
            return
        effects.admitted = admitted
        self.fruitless.end()
        update = admitted.update
        self.bytes_up = min(MAX_TOTAL_BYTES, self.bytes_up + update.payload_bytes)
        self.bytes_down = min(MAX_TOTAL_BYTES, self.bytes_down + update.bytes_down)
        self._note_device_scores(update)
        effects.closed.append(admitted.task.number)
        if update.blob:
            effects.blob = (update.blob, update.payload_bytes)
        self.ledger.buffer(admitted.task)
        self._offer(update.worker, admitted.contribution, entry, effects)
        self._close_cohort(entry, effects)
        self._check_limits(entry, effects)

    def _offer(self, worker: str, contribution: Contribution, entry: LogEntry, effects: Effects) -> None:
        if not self._buffered_workers:
            self.buffered_since_ms = self.moment(entry)
        self._buffered_workers.append(worker)
        merge = self.strategy.offer(contribution)
        if merge is not None:
            self._record_merge(merge, entry, effects)

    def _note_device_scores(self, update: ModelUpdate) -> None:
        """Keep what a device says of itself: the newest accuracy and loss, of the global model and of its own."""
        scores = {name: update.metrics[name] for name in DEVICE_SCORES if name in update.metrics}
        if scores and (update.worker in self.device_scores or len(self.device_scores) < MAX_SCORED_DEVICES):
            self.device_scores[update.worker] = scores

    def _close_cohort(self, entry: LogEntry, effects: Effects) -> None:
        """A strategy with a barrier merges when the last task of the cohort has ended, however it ended."""
        if not self.strategy.barrier or self.ledger.open or not self.accepts:
            return
        if (merge := self.strategy.flush()) is not None:
            self._record_merge(merge, entry, effects)
            self._check_limits(entry, effects)

    def _record_merge(self, merge: Merge, entry: LogEntry, effects: Effects) -> None:
        workers = self._buffered_workers[: merge.num_updates]
        tasks = self.ledger.buffered[: merge.num_updates]
        del self._buffered_workers[: merge.num_updates]
        self.buffered_since_ms = self.moment(entry)
        self.ledger.merge_buffered(merge.num_updates)
        self.merged_by_worker.update(workers)
        self.staleness.update(merge.staleness)
        effects.merges.append(merge)
        effects.history.append(
            {
                "kind": "merge",
                "seconds": self.seconds(self.moment(entry)),
                "version": merge.version,
                "merged": self.ledger.merged,
                "staleness": list(merge.staleness),
                "weights": [round(weight, 6) for weight in merge.weights],
                "workers": workers,
                "tasks": tasks,
            }
        )

    def _check_limits(self, entry: LogEntry, effects: Effects) -> None:
        stop = self._spec.stop
        # Counting what waits in the buffer makes the campaign end with exactly the number asked for: it is flushed.
        if stop.updates is not None and self.ledger.merged + len(self.ledger.buffered) >= stop.updates:
            self._end(Phase.FINISHED, "updates", entry, effects)
        elif stop.versions is not None and self.strategy.version >= stop.versions:
            self._end(Phase.FINISHED, "versions", entry, effects)

    def _end(self, phase: Phase, reason: str, entry: LogEntry, effects: Effects) -> None:
        if self.phase.is_over:
            return
        cancelled, arrived = self.ledger.cancel_open(), self.strategy.buffer_count
        effects.closed += cancelled
        effects.reopened.clear()
        if self.stop_target:
            # A version has met the target: it stands, and what waited for the next one does not move it any more.
            self.ledger.cancel_buffered()
        elif (phase.is_over or self.strategy.barrier) and arrived:
            # Otherwise what waits is merged at the end. An interrupted campaign keeps its buffer for later, but half a
            # cohort has no later: its other tasks are cancelled.
            merge = self.strategy.flush(arrived / (arrived + len(cancelled)))
            if merge is not None:
                self._record_merge(merge, entry, effects)
            else:  # too few to be trusted (strategy ``robust``)
                self.ledger.cancel_buffered()
        self.fruitless.look_at(self.strategy, self._layout)
        self.phase = phase
        self.stop_reason = reason
        self.ended_ms = self.moment(entry)
        effects.history.append(
            {"kind": "end", "seconds": self.seconds(self.moment(entry)), "state": phase.value, "reason": reason}
        )

    # -- rejections ------------------------------------------------------------------------------------------------

    def _refuse(self, cause: RejectedUpdate, entry: LogEntry, effects: Effects) -> None:
        refused = cause if isinstance(cause, Refused) else Refused(cause, None, None)
        effects.refusals.append(refused)
        update = refused.update
        if update is not None and update.blob.startswith(f"{update.task_id}."):
            # What it declares is not to be trusted: no more is dropped later than an update can take.
            effects.blob = (
                update.blob,
                min(update.payload_bytes, self._admission.max_payload_bytes(self.strategy, update.part)),
            )
        if refused.task is None:
            self.ledger.surplus[refused.reason.value] += 1
        else:
            self.ledger.reject(refused.task, refused.reason)
            effects.closed.append(refused.task.number)
        effects.history.append(
            {
                "kind": "rejection",
                "seconds": self.seconds(self.moment(entry)),
                "reason": refused.reason.value,
                "worker": refused.update.worker if refused.update else None,
                "task": refused.update.task_id if refused.update else None,
            }
        )
        if refused.task is not None:
            worker = update.worker if update is not None else ""
            self._note_failure(refused.reason.value, refused.detail, worker, place_of(refused.task), entry, effects)

    def _note_failure(
        self, reason: str, detail: str, worker: str, taken: tuple[str, Place], entry: LogEntry, effects: Effects
    ) -> None:
        """An attempt came to nothing; if none has come to anything for long, that is the end."""
        if self.fruitless.note(reason, detail, worker, taken, self.moment(entry)):
            self.fruitless.look_at(self.strategy, self._layout)
            effects.fruitless = self.fruitless.describe(self.seconds(self.fruitless.since_ms))["sentence"]
        if self.accepts and self.fruitless.ends_campaign(self.ledger, self.moment(entry)):
            self._end(Phase.STOPPED, "fruitless", entry, effects)

    # -- reports ---------------------------------------------------------------------------------------------------

    def _apply_report(self, entry: LogEntry, effects: Effects) -> None:
        try:
            report = TaskReport.from_bytes(entry.header)
        except RejectedUpdate as error:
            self._refuse(error, entry, effects)
            return
        number = task_number(self._secret, report.task_id)
        task = None if number is None else self.ledger.open.get(number)
        if report.campaign != self._campaign or task is None or report.attempt != task.attempt:
            return  # answered or re-issued meanwhile: nothing is lost
        taken, said = place_of(task), report.detail.strip().rpartition("\n")[2]
        if report.outcome == "handed_back":
            effects.handed_back = report
            self._reissue(task, task.queue, spent=False, reason="handed_back", entry=entry, effects=effects)
            effects.history[-1] |= _who_said_what(report)
            if said:
                self._note_failure("handed_back", said, report.worker, taken, entry, effects)
            return
        effects.failure = report
        if task.failures + 1 >= self._spec.dispatch.max_attempts:
            self.ledger.reject(task, Reason.TRAINING_FAILED)
            effects.closed.append(task.number)
            effects.history.append(
                {
                    "kind": "rejection",
                    "seconds": self.seconds(self.moment(entry)),
                    "reason": Reason.TRAINING_FAILED.value,
                    "task": report.task_id,
                    **_who_said_what(report),
                }
            )
            self._close_cohort(entry, effects)
        else:
            self._reissue(task, task.queue, spent=True, reason="failed", entry=entry, effects=effects)
            effects.history[-1] |= _who_said_what(report)
        self._note_failure("failed", said, report.worker, taken, entry, effects)

    def _reissue(
        self, task: OpenTask, queue: str, *, spent: bool, reason: str, entry: LogEntry, effects: Effects
    ) -> None:
        self.ledger.reissue(task, queue=queue, now_ms=self.moment(entry), spent=spent)
        effects.reopened.append(task)
        effects.history.append(
            {
                "kind": "reissue",
                "seconds": self.seconds(self.moment(entry)),
                "task": task.number,
                "attempt": task.attempt,
                "reason": reason,
            }
        )

    # -- events ----------------------------------------------------------------------------------------------------

    def _apply_event(self, entry: LogEntry, effects: Effects) -> None:
        if not is_authentic(self._secret, entry):
            self._refuse(RejectedUpdate(Reason.MALFORMED, "the event is not signed by a coordinator"), entry, effects)
            return
        try:
            event = CampaignEvent.from_bytes(entry.header)
        except RejectedUpdate as error:  # another release's, under the same secret
            self._refuse(error, entry, effects)
            return
        if event.campaign != self._campaign or event.sequence != self.sequence + 1:
            return  # a commit that was repeated after an answer was lost on the way: the first one counts
        self.sequence = event.sequence
        body = event.body
        if control := body.get("control"):
            self.control_position = max(self.control_position, control, key=order)
        match event.kind:
            case "opened":
                self.opened_ms = self.moment(entry)
                self.guard.begin(self.strategy)
            case "issued":
                self._apply_issued(body["queues"], entry, effects)
            case "reissued":
                self._apply_reissued(body, entry, effects)
            case "evaluating" if self.accepts:
                self.delivery.pin(self.strategy)
                effects.pinned = self.strategy.version
            case "evaluated":
                self._apply_evaluated(body, entry, effects)
            case "clock":
                self._apply_clock(body["shift_ms"], entry)
            case "merge_due":
                self._apply_merge_due(body["version"], entry, effects)
            case "paused":
                self._change_phase(Phase.PAUSED, (Phase.RUNNING,), entry, effects)
            case "resumed":
                self._change_phase(Phase.RUNNING, (Phase.PAUSED, Phase.INTERRUPTED), entry, effects)
            case "readmitted" if self.accepts:
                self._apply_readmitted(body, entry, effects)
            case "interrupted" if self.accepts:
                self._end(Phase.INTERRUPTED, "interrupted", entry, effects)
            case "stopped":
                self._end(
                    Phase.STOPPED if body["reason"] == "asked" else Phase.FINISHED, body["reason"], entry, effects
                )

    def _apply_issued(self, queues: list[str], entry: LogEntry, effects: Effects) -> None:
        self.ledger.issue(queues, self.moment(entry))
        if not self.accepts:
            effects.closed += self.ledger.cancel_open()  # decided just before the end

    def _apply_reissued(self, body: Any, entry: LogEntry, effects: Effects) -> None:
        task = self.ledger.open.get(body["task"])
        if task is None or task.attempt != body["attempt"]:
            return  # its update came first
        spent, taken = body["reason"] != "no_worker", place_of(task)
        if spent and task.failures + 1 >= self._spec.dispatch.max_attempts:
            self.ledger.expire(task)
            effects.closed.append(task.number)
            self._close_cohort(entry, effects)
        else:
            self._reissue(task, body["queue"], spent=spent, reason=body["reason"], entry=entry, effects=effects)
        if body["reason"] in ("lost", "deadline"):
            self._note_failure(body["reason"], "", "", taken, entry, effects)

    def _apply_readmitted(self, body: Any, entry: LogEntry, effects: Effects) -> None:
        number, reason = body["task"], body["reason"]
        if not self.ledger.can_readmit(number, reason):
            return
        parked = LogEntry(entry.position, "u", body["header"], body["payload"])
        try:
            update, contribution = self._admission.readmit(parked, self.strategy)
            if task_number(self._secret, update.task_id) != number:
                raise RejectedUpdate(Reason.UNKNOWN_TASK, f"it is none of task {number}: it is from an earlier life")
        except RejectedUpdate as error:
            effects.refusals.append(Refused(error, None, None))
            return
        self.ledger.readmit(number, reason)
        self.fruitless.end()
        self._offer(update.worker, contribution, entry, effects)
        self._close_cohort(entry, effects)
        self._check_limits(entry, effects)

    def _apply_clock(self, shift_ms: int, entry: LogEntry) -> None:
        """The server's clock was set. What was stamped before anybody noticed may lie in the future: it is now."""
        self.clock_shift_ms = shift_ms
        now_ms = self.moment(entry)
        self.opened_ms = min(self.opened_ms, now_ms)
        self.buffered_since_ms = min(self.buffered_since_ms, now_ms)
        for task in self.ledger.open.values():
            task.issued_ms = min(task.issued_ms, now_ms)

    def _apply_merge_due(self, version: int, entry: LogEntry, effects: Effects) -> None:
        """What waits has waited long enough (``aggregation.max_wait_seconds``), unless a merge came first."""
        if self.strategy.version != version or self.strategy.barrier or not self.accepts:
            return
        if (merge := self.strategy.flush()) is None:
            self.buffered_since_ms = self.moment(entry)  # it has to wait on: due again after as long
            return
        self._record_merge(merge, entry, effects)
        self._check_limits(entry, effects)

    def _change_phase(self, to: Phase, origin: tuple[Phase, ...], entry: LogEntry, effects: Effects) -> None:
        if self.phase not in origin:
            return
        self.phase = to
        self.stop_reason = ""
        effects.history.append({"kind": "phase", "seconds": self.seconds(self.moment(entry)), "state": to.value})

    def _apply_evaluated(self, body: Any, entry: LogEntry, effects: Effects) -> None:
        seconds = self.seconds(self.moment(entry))
        version, is_of_old = body["version"], "metrics" not in body
        metrics = {"accuracy": body["accuracy"]} if is_of_old else body["metrics"]
        metrics = {name: finite(value) for name, value in metrics.items()}
        dropped = self.guard.is_refused(version)
        verdict = "fine"
        if self.accepts and not dropped:
            score = metrics.get(self._spec.guard.metric or "")
            verdict = self.guard.judge(version, body["loss"], self.strategy, score)
        loss = finite(body["loss"])
        effects.history.append(
            {
                "kind": "evaluation",
                "seconds": seconds,
                "version": version,
                "merged": self.ledger.merged,
                "loss": loss,
                "accuracy": metrics.get("accuracy"),
                **({} if is_of_old else {"metrics": metrics}),
            }
        )
        if dropped:
            self.delivery.release()
            return  # nobody has this version any more: it sets no record and meets no target
        self._note_scores(version, loss, metrics, seconds)
        if self._meets_target(version, {"loss": loss, **metrics}, is_of_old=is_of_old):
            self._end(Phase.FINISHED, self.stop_target, entry, effects)
            return
        self.delivery.release()
        if verdict != "fine":
            self._roll_back(entry, effects)
            if verdict == "hopeless":
                self._end(Phase.STOPPED, "diverged", entry, effects)  # what is delivered is the last good version

    def _meets_target(self, version: int, scores: Mapping[str, float | None], *, is_of_old: bool) -> bool:
        """Whether a version met a target of ``stop`` and is what the campaign delivers, if it was not over before."""
        for target in self._spec.stop.targets if self.accepts else ():
            value = scores.get(target.name)
            if value is None or not target.is_met_by(value):
                continue
            # An earlier release ended here, and delivered what the model was by now: its log says the same again.
            if self.delivery.meet(version, target, value, self.strategy) or is_of_old:
                self.stop_target = target.name
                return True
        return False

    def _note_scores(
        self, version: int, loss: float | None, metrics: Mapping[str, float | None], seconds: float
    ) -> None:
        if self.scores.note(version, loss, metrics, seconds, self._spec.is_higher_better):
            self._flat_evaluations = 0
            return
        self._flat_evaluations += 1
        if self._flat_evaluations >= self._spec.training.schedule_period:
            self._flat_evaluations = 0
            self.num_plateaus += 1

    def _roll_back(self, entry: LogEntry, effects: Effects) -> None:
        """Go on from the last good version; what waited in the buffer came from the diverged model."""
        self.ledger.cancel_buffered()
        self._buffered_workers.clear()
        self.delivery.release()
        self.strategy, good = self.guard.roll_back(self._spec, self._layout, self.strategy)
        effects.history.append(
            {
                "kind": "rollback",
                "seconds": self.seconds(self.moment(entry)),
                "version": self.strategy.version,
                "good_version": good,
                "rate_factor": self._spec.guard.rate_factor**self.guard.num_rollbacks,
            }
        )

    # -- checkpoint ------------------------------------------------------------------------------------------------

    def export(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All state: arrays by name (views: copy them before the next merge) and plain values."""
        self._verify_whole()
        tensors, strategy_meta = self.strategy.export_state()
        guard_tensors, guard_meta = self.guard.export()
        tensors = tensors | {f"guard.{name}": array for name, array in guard_tensors.items()}
        delivery_tensors, delivery_meta = self.delivery.export()
        tensors = tensors | {f"delivery.{name}": array for name, array in delivery_tensors.items()}
        return tensors, {
            "guard": guard_meta,
            "buffered_since_ms": self.buffered_since_ms,
            "strategy": strategy_meta,
            "ledger": self.ledger.export(),
            "phase": self.phase.value,
            "stop_reason": self.stop_reason,
            "position": self.position,
            "sequence": self.sequence,
            "control_position": self.control_position,
            "clock_shift_ms": self.clock_shift_ms,
            "opened_ms": self.opened_ms,
            "ended_ms": self.ended_ms,
            "scores": self.scores.export(),
            "delivery": delivery_meta,
            "staleness": sorted(self.staleness.items()),
            "merged_by_worker": dict(self.merged_by_worker),
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "num_entries": self.num_entries,
            "num_plateaus": self.num_plateaus,
            "flat_evaluations": self._flat_evaluations,
            "device_scores": self.device_scores,
            "fruitless": self.fruitless.export(),
            "buffered_workers": list(self._buffered_workers),
        }

    def restore(self, tensors: dict[str, Any], meta: dict[str, Any]) -> None:
        """The inverse of ``export``.

        Raises:
            CampaignError: the checkpoint is of another strategy or model.
        """
        prefix = "guard."
        self.guard.restore(with_prefix(tensors, prefix), meta["guard"])
        if self.guard.num_rollbacks:
            self.strategy = self.guard.strategy(self._spec, self._layout, self.strategy.parameters)
        if "delivery" in meta:  # else an earlier release wrote it
            self.delivery.restore(with_prefix(tensors, "delivery."), meta["delivery"])
        own = {name: array for name, array in tensors.items() if not name.startswith((prefix, "delivery."))}
        self.strategy.restore_state(own, meta["strategy"])
        self.ledger = Ledger.restore(meta["ledger"])
        self.phase = Phase(meta["phase"])
        self.scores = Scores.restore(meta["scores"])
        self.staleness = Counter(dict(meta["staleness"]))
        self.merged_by_worker = Counter(meta["merged_by_worker"])
        self._buffered_workers = list(meta["buffered_workers"])
        for name in ("stop_reason", "position", "sequence", "control_position", "opened_ms", "ended_ms"):
            setattr(self, name, meta[name])
        self.device_scores = {worker: dict(scores) for worker, scores in meta["device_scores"].items()}
        for name in ("bytes_up", "bytes_down", "num_entries", "num_plateaus", "buffered_since_ms"):
            setattr(self, name, meta[name])
        self.clock_shift_ms = meta.get("clock_shift_ms", 0)
        self._flat_evaluations = meta["flat_evaluations"]
        if "fruitless" in meta:  # else an earlier release wrote it
            self.fruitless.restore(meta["fruitless"])


def _who_said_what(report: TaskReport) -> dict[str, str]:
    """A report for the history: its worker, and the last line of what it says, which of a traceback is the error."""
    lines = report.detail.split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return {"worker": report.worker, "detail": said[:MAX_SAID_CHARACTERS]}
