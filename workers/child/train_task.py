"""One task on the device: claim, newest version, local training, encode, deliver. Runs in the training child.

A doorbell is anybody's who can write to a queue, so nothing is built or imported for it before the claim has shown that
the coordinator waits for this task. What its words may then name is up to this device's owner (``fl_core/allowance``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import structlog
import torch

from fl_core.allowance import AllowList
from fl_core.broker.connection import connect
from fl_core.broker.patience import device_outage, patiently
from fl_core.broker.tasks import TaskBroker, payload_place
from fl_core.errors import BrokerError, BudgetSpent, RejectedUpdate, TrainingStopped, UntrustedError
from fl_core.factory import gate
from fl_core.privacy.terms import Terms
from fl_core.training.one_task import do_task
from fl_core.wire.messages import TaskCall, TrainTask, holding_name
from workers.breaker import Breakers
from workers.child.delivering import Delivering
from workers.child.fetching import Fetching
from workers.child.own_device import OwnDevice, reusable
from workers.child.reporting import Overdue, Reporting, quietly, words_of
from workers.child.tally import TaskRecorder
from workers.identity.signing import seal_of, trust_of
from workers.passing import Passing
from workers.pulse import Pulse
from workers.settings import WorkerSettings
from workers.store.model_cache import ModelCache
from workers.store.spending import journal_of

log = structlog.get_logger()

WANTED_SECONDS = 2.0
PROGRESS_SECONDS = 30.0
# Of tasks that were delivered, a line this often at most.
LINE_SECONDS = 1.0


class Trainer:
    """The training child's whole life: made at the first task, when torch and the data are loaded.

    Args:
        settings: the worker's.
        pulse: where the parent reads what this process does.
        breakers: which campaigns fail here.
        passing: takes the doorbells that are for others.

    Raises:
        DataError: the device's data cannot be loaded.
    """

    def __init__(self, settings: WorkerSettings, pulse: Pulse, breakers: Breakers, passing: Passing) -> None:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._settings = settings
        self._pulse = pulse
        self._breakers, self._passing = breakers, passing
        self._own = OwnDevice(settings)
        self._allowed = AllowList(settings.allow)
        self._spending = journal_of(settings)
        self._models = ModelCache(self._own.device, settings.state_dir, settings.cache_bytes)
        client = connect(settings.broker)
        self._broker = TaskBroker(
            client,
            settings.name,
            settings.blobs,
            on_progress=self._note_progress,
            on_moved=self._note_moved,
            seal=seal_of(settings),
            trust=trust_of(settings, client),
        )
        self._reporting = Reporting(self._broker, settings.name)
        self._fetching = Fetching(self._broker)
        self._delivering = Delivering(self._broker, settings.state_dir, on_late=lambda: self._show(state="delivering"))
        self.recorder = TaskRecorder(pulse.tally, settings.name, traces=settings.traces)
        self._next_word = self._next_line = 0.0
        self._in_user_code, self._limit = False, 0.0
        self._is_private = False
        self._vitals = replace(
            pulse.read(), device=str(self._own.device), state="idle", holding="", since=0.0, limit=0.0
        )
        pulse.write(self._vitals)

    def interrupt(self) -> None:
        """Called by a signal's handler: end the user code that runs now, if any does.

        Raises:
            Overdue: it does.
        """
        if self._in_user_code:
            self._in_user_code = False
            raise Overdue(f"the training did not finish within task_timeout_seconds = {self._limit:g}")

    def close(self) -> None:
        """The process ends in peace."""
        self._models.close()
        self.recorder.close()

    def execute(self, order: bytes) -> None:
        """Do one task, whatever comes of it: an update, a report, or nothing when nobody wants it any more."""
        try:
            rung = TaskCall.from_bytes(order)
        except RejectedUpdate as error:
            log.error("a task that cannot be read was dropped", reason=error.detail)
            return
        task = self._breakers.choose(rung)
        if task != rung:
            self._passing.give(rung)
        if task is None:
            return
        started, self._is_private = time.monotonic(), False
        with structlog.contextvars.bound_contextvars(campaign=task.campaign, task=task.task_id):
            self._show(state="training", holding=holding_name(task.campaign, task.task_id, task.attempt))
            try:
                with gate(self._allowed):
                    self._train_and_deliver(task)
            except TrainingStopped:
                log.info("task was cancelled")
                self.recorder.ended(task, "cancelled")
            except UntrustedError as error:
                self._distrust(task, str(error), time.monotonic() - started)
            except BudgetSpent as error:
                self._rest(task, str(error))
            except (Exception, Overdue, SystemExit, KeyboardInterrupt) as error:
                self._fail(task, error, time.monotonic() - started)
            finally:
                self._show(state="idle", holding="")

    @contextlib.contextmanager
    def _in_time(self, task: TrainTask, spent: float = 0.0) -> Iterator[None]:
        """Runs code that others have written, until the task's time is over, of which so many seconds are spent."""
        self._limit = task.timeout_seconds
        self._pulse.allow(time.monotonic() - spent, task.timeout_seconds)
        self._in_user_code = True
        try:
            yield
        finally:
            self._in_user_code = False
            self._pulse.allow(0.0, 0.0)

    # -- the path --------------------------------------------------------------------------------------------------

    def _train_and_deliver(self, call: TaskCall) -> None:
        started = time.perf_counter()
        held = self._models.find(call.campaign)
        claim = patiently(lambda: self._broker.claim(call, held.digest if held else ""), begin=device_outage)
        fetching = time.perf_counter() - started
        task = claim.task
        if claim.head is None or task is None:
            log.debug("doorbell is void", verdict=claim.verdict)
            self.recorder.ended(call, "void")
            if self._breakers.waits(call.campaign, claim.verdict):
                self._passing.give(call)
            return
        terms = Terms.read(task.privacy)
        self._is_private = terms is not None
        self._spending.verify(task.campaign, terms)
        began = time.perf_counter()
        with self._in_time(task):
            model = self._models.get(task)
        started = time.perf_counter()
        building = started - began
        bytes_down = self._fetching.hold_constants(task, model)
        claim, fetched_bytes = self._fetching.hold_newest(task, model, claim)
        bytes_down += fetched_bytes
        fetched = time.perf_counter()
        fetching += fetched - started
        if claim.head is None or model.base is None:
            log.debug("the task ended meanwhile", verdict=claim.verdict)
            self.recorder.ended(task, "void")
            return
        head, version = claim.head, claim.head.version
        log.debug("training", version=version, queue_seconds=round(claim.queue_seconds, 3))
        with self._in_time(task, building):
            device = self._own.for_task(task, model, self._stop_check(task), self._spending.spend)
            done = do_task(task, model, model.base, version, device)
        blob, num_chunks = payload_place(task, self._settings.name, done.num_bytes)
        update = done.update(
            blob=blob,
            num_chunks=num_chunks,
            bytes_down=bytes_down,
            seconds={
                "queue": claim.queue_seconds,
                "fetch": fetching,
                "train": done.train_seconds,
                "encode": done.encode_seconds,
            },
            signed=self._settings.identity is not None,
        )
        if head.mac:
            update = replace(update, incarnation=head.incarnation, base_digest=model.digest, base_mac=head.mac)
        ready = time.perf_counter()
        wanted = self._delivering.deliver(update, done.payload)
        model.spare = reusable(done.outcome, model)
        parts = {**update.seconds, "deliver": time.perf_counter() - ready}
        self.recorder.ended(task, "delivered" if wanted else "unwanted", parts)
        if self._breakers.worked(task.campaign):
            self._passing.tell_worked(task.campaign)
        self._vitals = replace(
            self._vitals,
            num_done=self._vitals.num_done + 1,
            bytes_up=self._vitals.bytes_up + done.num_bytes,
            bytes_down=self._vitals.bytes_down + bytes_down,
        )
        if wanted:
            self._tell(
                version=version, attempt=task.attempt, digest=update.payload_digest, examples=update.num_examples,
                loss=update.metrics.get("loss"), train_seconds=round(done.train_seconds, 3),
                deliver_seconds=round(parts["deliver"], 3),
            )  # fmt: skip
        else:
            self._models.forget(task.campaign)
            log.info("the campaign has ended; the update was not wanted")

    def _tell(self, **facts: Any) -> None:
        """A line for the device's owner, once a second at most; the level ``debug`` tells of all."""
        now = time.monotonic()
        if now < self._next_line:
            log.debug("delivered", **facts)
            return
        self._next_line = now + LINE_SECONDS
        log.info("delivered", **facts)

    def _distrust(self, task: TaskCall, why: str, seconds: float) -> None:
        """No coordinator has signed what the broker shows; the campaign, whose doing it is not, is told nothing."""
        (log.debug if self._breakers.was_told(task.campaign, why) else log.error)("a task was dropped", reason=why)
        self._breakers.failed(task.campaign, seconds, why[:200])
        self.recorder.ended(task, "distrusted")
        self._vitals = replace(self._vitals, num_failed=self._vitals.num_failed + 1)

    def _fail(self, task: TaskCall, error: BaseException, seconds: float) -> None:
        """Tell the coordinator that user code (or this installation) could not do the task."""
        why, text = words_of(error)
        log.error("training failed", reason=why, **({"traceback": text} if text else {}))
        if self._is_private:
            why, text = quietly(error, why), ""
        self._breakers.failed(task.campaign, seconds, why[:200])
        self.recorder.ended(task, "failed", error=why[:200])
        self._vitals = replace(self._vitals, num_failed=self._vitals.num_failed + 1)
        self._reporting.report(task, "failed", why, text)

    def _rest(self, task: TaskCall, why: str) -> None:
        """Hand the task back: this device may give its campaign nothing more."""
        if self._breakers.rest(task.campaign, why[:200]):
            log.warning("this device takes no more tasks of the campaign", reason=why)
        self.recorder.ended(task, "budget_spent")
        self._reporting.report(task, "budget_spent", why)

    # -- small things ----------------------------------------------------------------------------------------------

    def _stop_check(self, task: TrainTask) -> Callable[[], bool]:
        """Asks every two seconds whether the task is still wanted; a broker that is away does not stop the training."""
        next_look = time.monotonic() + WANTED_SECONDS

        def should_stop() -> bool:
            nonlocal next_look
            if time.monotonic() < next_look:
                return False
            next_look = time.monotonic() + WANTED_SECONDS
            try:
                return not self._broker.is_wanted(task)
            except BrokerError:
                next_look += 5 * WANTED_SECONDS
                return False

        return should_stop

    def _note_moved(self) -> None:
        """Bytes have moved: the parent says so to the broker, and tells when nobody waits for them any more."""
        self._pulse.note_moved()
        self._fetching.moved_at = time.monotonic()
        if self._pulse.is_recalled(self._vitals.holding):
            raise TrainingStopped

    def _note_progress(self, way: str, done: int, num_bytes: int) -> None:
        """A version or an update takes long on its way: the parent tells it with its beats, the log now and then."""
        up, field = way == "up", f"bytes_{way}"
        moved: dict[str, Any] = {field: getattr(self._vitals, field) + done}
        self._pulse.write(replace(self._vitals, state="delivering" if up else self._vitals.state, **moved))
        if up:
            self._delivering.keep()
        if (now := time.monotonic()) >= self._next_word:
            self._next_word = now + PROGRESS_SECONDS
            log.info("sending an update" if up else "receiving a version", bytes=done, of=num_bytes)

    def _show(self, **changes: Any) -> None:
        self._vitals = replace(self._vitals, trouble=self._breakers.trouble(), **changes)
        self._pulse.write(self._vitals)
