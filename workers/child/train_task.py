"""One task on the device: claim, newest version, local training, encode, deliver. Runs in the training child.

A doorbell is anybody's who can write to a queue, so nothing is built or imported for it before the claim has shown that
the coordinator waits for this task. What its words may then name is up to this device's owner (``fl_core/allowance``).
"""

from __future__ import annotations

import contextlib
import math
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import structlog
import torch

from fl_core.allowance import AllowList
from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.places import PlaceRefused
from fl_core.broker.connection import connect
from fl_core.broker.tasks import Claim, TaskBroker, payload_place
from fl_core.codecs import codec
from fl_core.codecs.model_payload import append_state
from fl_core.errors import (
    BrokerError,
    BrokerUnavailable,
    DataError,
    MissingBlob,
    RejectedUpdate,
    SpecError,
    TrainingStopped,
)
from fl_core.factory import call, gate
from fl_core.models.build import build_model
from fl_core.program.redaction import redact
from fl_core.training.batches import count_examples
from fl_core.training.device import pick_device
from fl_core.training.importance import accumulated, score
from fl_core.training.method import DeviceTask, Outcome
from fl_core.training.pace import fit_work
from fl_core.training.schedule import version_factor
from fl_core.vectors import FloatArray, Sends
from fl_core.vectors.agreement import verify_constants
from fl_core.wire.checks import MAX_DETAIL_CHARACTERS, MAX_MEASURE
from fl_core.wire.digest import digest
from fl_core.wire.messages import ModelUpdate, TaskCall, TaskReport, TrainTask, holding_name
from workers.breaker import Breakers
from workers.child.tally import Account
from workers.endings import what_was_raised
from workers.passing import Passing
from workers.pulse import Pulse
from workers.settings import WorkerSettings
from workers.store.memory import DeviceMemory, Draft
from workers.store.model_cache import CachedModel, ModelCache
from workers.store.outbox import Outbox
from workers.store.profile import SpeedProfile

log = structlog.get_logger()

LAST_FETCH_PAUSE_SECONDS = 2.0
WANTED_SECONDS = 2.0
PROGRESS_SECONDS = 30.0


class _Overdue(BaseException):
    """Raised within user code by a signal; it is no ``Exception``, which such code may catch and go on."""


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
        self._device = pick_device(settings.device)
        self._dataset = call(settings.data, settings.data_args, "data")
        try:
            count_examples(self._dataset)
        except DataError as error:
            raise DataError(f"data = {settings.data!r} with {dict(settings.data_args)!r}: {error}") from None
        self._allowed = AllowList(settings.allow)
        self._models = ModelCache(self._device, settings.state_dir, settings.cache_bytes)
        self._broker = TaskBroker(
            connect(settings.broker),
            settings.name,
            settings.blobs,
            on_progress=self._note_progress,
            on_moved=self._note_moved,
        )
        self._outbox = Outbox(settings.state_dir)
        self._speed = SpeedProfile()
        self.account = Account(pulse.tally, settings.name, traces=settings.traces)
        self._next_word = 0.0
        self._moved_at = 0.0
        self._sending: tuple[ModelUpdate, bytes | memoryview] | None = None
        self._kept: Path | None = None
        self._in_user_code, self._limit = False, 0.0
        self._vitals = replace(pulse.read(), device=str(self._device), state="idle", holding="", since=0.0, limit=0.0)
        pulse.write(self._vitals)

    def interrupt(self) -> None:
        """Called by a signal's handler: end the user code that runs now, if any does.

        Raises:
            _Overdue: it does.
        """
        if self._in_user_code:
            self._in_user_code = False
            raise _Overdue(f"the training did not finish within task_timeout_seconds = {self._limit:g}")

    def close(self) -> None:
        """The process ends in peace."""
        self._models.close()
        self.account.close()

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
        started = time.monotonic()
        with structlog.contextvars.bound_contextvars(campaign=task.campaign, task=task.task_id):
            self._show(state="training", holding=holding_name(task.campaign, task.task_id, task.attempt))
            try:
                with gate(self._allowed):
                    self._train_and_deliver(task)
            except TrainingStopped:
                log.info("task was cancelled")
                self.account.ended(task, "cancelled")
            except (Exception, _Overdue, SystemExit, KeyboardInterrupt) as error:
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
        claim: Claim = self._patiently(lambda: self._broker.claim(call, held.digest if held else ""))
        fetching = time.perf_counter() - started
        task = claim.task
        if claim.head is None or task is None:
            log.debug("doorbell is void", verdict=claim.verdict)
            self.account.ended(call, "void")
            return
        began = time.perf_counter()
        with self._in_time(task):
            model = self._models.get(task)
        started = time.perf_counter()
        building = started - began
        bytes_down = self._hold_constants(task, model)
        claim, fetched_bytes = self._hold_newest(task, model, claim)
        bytes_down += fetched_bytes
        fetched = time.perf_counter()
        fetching += fetched - started
        if claim.head is None or model.base is None:
            log.debug("the task ended meanwhile", verdict=claim.verdict)
            self.account.ended(task, "void")
            return
        version = claim.head.version
        log.debug("training", version=version, queue_seconds=round(claim.queue_seconds, 3))
        with self._in_time(task, building):
            outcome = self._train(task, model, version)
            trained = time.perf_counter()
            payload = self._encode(task, model, outcome)
        num_bytes = memoryview(payload).nbytes
        blob, num_chunks = payload_place(task, self._settings.name, num_bytes)
        update = ModelUpdate(
            campaign=task.campaign,
            task_id=task.task_id,
            attempt=task.attempt,
            worker=self._settings.name,
            base_version=version,
            num_examples=outcome.training.num_examples,
            sends=task.sends,
            part=outcome.part,
            codec=task.codec,
            layout_digest=model.layout.digest,
            payload_bytes=num_bytes,
            payload_digest=digest(payload),
            blob=blob,
            num_chunks=num_chunks,
            bytes_down=bytes_down,
            metrics=_finite({**outcome.training.metrics, **outcome.metrics}),
            seconds={
                "queue": claim.queue_seconds,
                "fetch": fetching,
                "train": trained - fetched,
                "encode": time.perf_counter() - trained,
            },
        )
        ready = time.perf_counter()
        wanted = self._deliver(update, payload)
        model.spare = _reusable(outcome, model)
        parts = {**update.seconds, "deliver": time.perf_counter() - ready}
        self.account.ended(task, "delivered" if wanted else "unwanted", parts)
        if self._breakers.worked(task.campaign):
            self._passing.tell_worked(task.campaign)
        self._vitals = replace(
            self._vitals,
            num_done=self._vitals.num_done + 1,
            bytes_up=self._vitals.bytes_up + num_bytes,
            bytes_down=self._vitals.bytes_down + bytes_down,
        )
        if wanted:
            log.debug("delivered", version=version, attempt=task.attempt, digest=update.payload_digest)
        else:
            self._models.forget(task.campaign)
            log.info("the campaign has ended; the update was not wanted")

    def _hold_constants(self, task: TrainTask, model: CachedModel) -> int:
        """Fetch what no version carries, if the model that was built here has other values; the bytes fetched."""
        if model.constants_digest == task.constants_digest:
            return 0
        give_up, pause = time.monotonic() + task.timeout_seconds, 0.05
        while True:
            try:
                payload = self._broker.fetch_constants(task, model.constants_bytes)
            except (MissingBlob, BrokerError) as error:
                if time.monotonic() > max(give_up, self._moved_at + task.timeout_seconds):
                    raise
                if isinstance(error, PlaceRefused) and pause >= LAST_FETCH_PAUSE_SECONDS:
                    raise SpecError(str(error)) from None
                time.sleep(pause)
                pause = min(LAST_FETCH_PAUSE_SECONDS, 1.5 * pause)
                continue
            model.take_constants(payload)
            log.info("fetched the campaign's constants, since the model built here has others", bytes=len(payload))
            return len(payload)

    def _hold_newest(self, task: TrainTask, model: CachedModel, claim: Claim) -> tuple[Claim, int]:
        """Hold the version that the claim named, or a newer one: the moment at which the base version is decided.

        Returns:
            The claim that named it, and the bytes that were fetched.
        """
        give_up, pause = time.monotonic() + task.timeout_seconds, 0.0
        bytes_down = 0
        while True:
            head = claim.head
            if head is None or head.digest == model.digest:
                return claim, bytes_down
            if head.patches and model.can_be_patched:
                num_bytes, arrived = self._patch(task, model, head)
                bytes_down += num_bytes
                if arrived:
                    return claim, bytes_down
            try:
                payload = self._broker.fetch(task, head, model.give_up_base())
            except (MissingBlob, BrokerError) as error:
                # A newer version was published meanwhile; or the server that had this one has forgotten it or is away,
                # and the coordinator publishes it again, perhaps elsewhere. Either way the next claim says where.
                if time.monotonic() > max(give_up, self._moved_at + task.timeout_seconds):
                    raise
                if isinstance(error, PlaceRefused) and pause >= LAST_FETCH_PAUSE_SECONDS:
                    raise SpecError(str(error)) from None  # no newer pointer leads elsewhere
                if pause >= LAST_FETCH_PAUSE_SECONDS:
                    log.warning("the newest version cannot be fetched", version=head.version, reason=str(error))
                time.sleep(pause)
                pause = min(LAST_FETCH_PAUSE_SECONDS, 1.5 * pause + 0.005)
                claim = self._patiently(lambda: self._broker.claim(task, model.digest))
                continue
            model.keep(head, payload)
            return claim, bytes_down + len(payload)

    def _patch(self, task: TrainTask, model: CachedModel, head: Head) -> tuple[int, bool]:
        """Reach the newest version by patches: the bytes that were fetched, and whether it was reached."""
        payloads: list[memoryview] = []
        try:
            for payload in self._broker.fetch_patches(task, head):
                payloads.append(payload)  # noqa: PERF402 - those that came count, also where the next one does not
        except (MissingBlob, BrokerError) as error:
            log.debug("a patch cannot be had; fetching the version", version=head.version, reason=str(error))
            return sum(map(len, payloads)), False
        return sum(map(len, payloads)), model.patch(head, payloads)

    def _train(self, task: TrainTask, model: CachedModel, version: int) -> Outcome:
        base = model.base
        if base is None:
            raise DataError("there is no base version to train from")
        model.local.restore(model.module)
        model.layout.load_into(model.module, base)
        rate = model.settings.learning_rate * task.learning_rate_factor * version_factor(model.settings, version)
        memory = Draft(DeviceMemory(self._settings.state_dir, task.campaign))
        outcome = model.method.train(
            DeviceTask(
                model=model.module,
                layout=model.layout,
                base=base,
                version=version,
                sends=cast(Sends, task.sends),  # checked when the task was read
                dataset=self._dataset,
                settings=fit_work(
                    model.settings.model_copy(update={"learning_rate": rate}),
                    self._speed.seconds_per_example(task.campaign),
                ),
                seed=_seed(task, self._settings.name),
                device=self._device,
                worker=self._settings.name,
                memory=memory,
                own_model=self._own_model if self._settings.model else None,
                importance=accumulated(task.codec_args.get("importance", "")),
                spare=model.spare,
                should_stop=self._stop_check(task),
                emulate_example_seconds=self._settings.emulate_example_seconds,
            )
        )
        if not memory.keep(outcome.values):
            log.warning("what this task came to is not finite; the device remembers nothing of it")
        if task.sends != "soft_labels":
            verify_constants(model.layout, model.module, base)
            state = outcome.state if outcome.state is not None else model.layout.state_of(model.module)
            outcome = replace(outcome, state=state)
        self._speed.note(task.campaign, outcome.training)
        if self._settings.emulate_delay_seconds:
            time.sleep(self._settings.emulate_delay_seconds)
        if self._settings.emulate_attack:
            from fl_core.training.attacks import corrupt

            weights = base.values[model.layout.trainable]
            hostile = corrupt(outcome.values, cast(Sends, task.sends), weights, self._settings.emulate_attack)
            outcome = replace(outcome, values=hostile)
        return outcome

    def _own_model(self) -> torch.nn.Module:
        settings = self._settings
        with gate(None):  # its owner's words
            return build_model(settings.model, settings.model_args, zlib.crc32(settings.name.encode()))

    def _encode(self, task: TrainTask, model: CachedModel, outcome: Outcome) -> bytes | memoryview:
        payload = self._encode_weights(task, model, outcome)
        if outcome.state is None or model.base is None:
            return payload
        return append_state(payload, model.layout, outcome.state, model.base.values[model.layout.state])

    def _encode_weights(self, task: TrainTask, model: CachedModel, outcome: Outcome) -> bytes | memoryview:
        chosen, seed = codec(task.codec, task.codec_args), _seed(task, self._settings.name)
        if not chosen.needs_feedback:
            return chosen.encode(outcome.values, seed)
        kind = task.codec_args.get("importance", "")
        ranks = score(kind, model.layout.weights, outcome.training.importance) if outcome.part == 0 else None
        return model.feedback[outcome.part].encode(chosen, outcome.values, seed, ranks)

    def _deliver(self, update: ModelUpdate, payload: bytes | memoryview) -> bool:
        self._sending = update, payload
        try:
            try:
                wanted = self._broker.deliver(update, payload)
            except BrokerError as error:
                self._show(state="delivering")
                self._keep()
                kept = "memory" if self._kept is None else str(self._kept)
                log.warning("the broker is away; the update waits", reason=str(error), kept=kept)
                wanted = bool(self._patiently(lambda: self._broker.deliver(update, payload)))
                log.info("the update was delivered late", wanted=wanted)
        except TrainingStopped:
            with contextlib.suppress(BrokerError):
                self._broker.withdraw(update)
            self._forget_kept()
            raise
        finally:
            self._sending = None
        self._forget_kept()
        return wanted

    def _keep(self) -> None:
        """Keep on disk what is being sent: this process may end before it has arrived."""
        if self._sending is None or self._kept is not None:
            return
        try:
            self._kept = self._outbox.put(*self._sending)
        except OSError as error:
            log.error("the update cannot be kept on disk", state_dir=str(self._settings.state_dir), reason=str(error))

    def _forget_kept(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.unlink(missing_ok=True)

    def _fail(self, task: TaskCall, error: BaseException, seconds: float) -> None:
        """Tell the coordinator that user code (or this installation) could not do the task."""
        # User code may raise with text that is no valid Unicode; the report must go out all the same.
        why = str(error) if isinstance(error, (SpecError, _Overdue)) else f"the training {what_was_raised(error)}"
        why = redact(why.encode("utf-8", "replace").decode())
        # A sentence of ours says it all; others need their traceback.
        text = "" if isinstance(error, SpecError) else traceback.format_exc().encode("utf-8", "replace").decode()
        text = redact(text)
        log.error("training failed", reason=why, **({"traceback": text} if text else {}))
        self._breakers.failed(task.campaign, seconds, why[:200])
        self.account.ended(task, "failed", error=why[:200])
        self._vitals = replace(self._vitals, num_failed=self._vitals.num_failed + 1)
        report = TaskReport(
            campaign=task.campaign,
            task_id=task.task_id,
            attempt=task.attempt,
            worker=self._settings.name,
            outcome="failed",
            detail=f"{text}\n{why[:2000]}"[-MAX_DETAIL_CHARACTERS:].lstrip(),
        )
        try:
            self._patiently(lambda: self._broker.report(report))
        except BrokerError as error:
            log.error("the task cannot be reported; the coordinator will notice", reason=str(error))

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

    def _patiently(self, action: Callable[[], Any]) -> Any:
        """Repeat what needs the broker for as long as it is away."""
        pause, since = 0.1, time.monotonic()
        next_word = since + 10
        while True:
            try:
                return action()
            except BrokerUnavailable as error:
                if time.monotonic() >= next_word:
                    log.warning("waiting for the broker", seconds=round(time.monotonic() - since), reason=str(error))
                    next_word = time.monotonic() + 60
                time.sleep(pause)
                pause = min(5.0, pause * 1.5)

    def _note_moved(self) -> None:
        """Bytes have moved: the parent says so to the broker, and tells when nobody waits for them any more."""
        self._pulse.note_moved()
        self._moved_at = time.monotonic()
        if self._pulse.is_recalled(self._vitals.holding):
            raise TrainingStopped

    def _note_progress(self, way: str, done: int, num_bytes: int) -> None:
        """A version or an update takes long on its way: the parent tells it with its beats, the log now and then."""
        up = way == "up"
        moved: dict[str, Any] = (
            {"bytes_up": self._vitals.bytes_up + done} if up else {"bytes_down": self._vitals.bytes_down + done}
        )
        self._pulse.write(replace(self._vitals, state="delivering" if up else self._vitals.state, **moved))
        if up:
            self._keep()
        if (now := time.monotonic()) >= self._next_word:
            self._next_word = now + PROGRESS_SECONDS
            log.info("sending an update" if up else "receiving a version", bytes=done, of=num_bytes)

    def _show(self, **changes: Any) -> None:
        self._vitals = replace(self._vitals, trouble=self._breakers.trouble(), **changes)
        self._pulse.write(self._vitals)


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value) and abs(value) <= MAX_MEASURE}


def _reusable(outcome: Outcome, model: CachedModel) -> FloatArray | None:
    """An update's memory, if the next one may lie there. What error feedback has seen, it may hold on to."""
    values = outcome.values
    fits = values.shape == (model.layout.num_parameters,) and values.dtype == np.float32
    return values if fits and values.flags.carray and not model.feedback else None


def _seed(task: TrainTask, worker: str) -> int:
    """A seed for shuffling that differs between tasks and workers and is the same on every machine."""
    return zlib.crc32(f"{task.campaign}/{task.task_id}/{worker}".encode())
