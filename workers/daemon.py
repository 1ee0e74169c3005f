"""The worker daemon: registers, beats, takes tasks when it is free, and leaves without losing what it has in hand.

Two processes: the parent consumes and beats, its one child trains. The child is the only one that loads torch.
"""

from __future__ import annotations

import os
import platform
import threading
import time

import structlog

from fl_core.broker.connection import broker_errors, connect
from fl_core.broker.consumer import Consumer
from fl_core.broker.roster import BEAT_SECONDS, Roster, due_seconds
from fl_core.broker.tasks import TaskBroker
from fl_core.broker.url import public_url
from fl_core.errors import BrokerError, RejectedUpdate, SpecError
from fl_core.exposition import MetricsServer
from fl_core.messages import Beat, TaskCall, TaskReport
from fl_core.plain_text import shown
from fl_core.process import end_with_parent
from workers.outbox import Outbox
from workers.pulse import Pulse, Vitals
from workers.settings import WorkerSettings
from workers.turns import turn

log = structlog.get_logger()

LOOK_SECONDS = 0.2
NEWS_SECONDS = 1.0


class Daemon:
    """One worker.

    Args:
        settings: see ``WorkerSettings``.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._client = connect(settings.broker)
        self._roster = Roster(self._client)
        self._tasks = TaskBroker(self._client, settings.name, settings.blobs)
        self._pulse = Pulse()
        self._child = _Child(settings, self._pulse)
        self._started_ms = time.time_ns() // 10**6
        self._leaving = threading.Event()
        self._ended = threading.Event()
        self._listens = threading.Event()
        self._leave_by = float("inf")
        self._outbox_waits = True
        self._consumer = Consumer(
            settings.broker,
            settings.name,
            settings.queues,
            execute=self._child.execute,
            on_child=self._child.begin,
            on_child_end=self._child.end,
            on_ready=self._on_ready,
            on_stop=self._on_stop,
            celery_events=settings.celery_events,
        )
        self._thread = threading.Thread(target=self._watch, name="beats", daemon=True)
        self._metrics = None if settings.metrics_port is None else self._bind_metrics(settings.metrics_port)

    def _bind_metrics(self, port: int) -> MetricsServer:
        from workers.metrics import WorkerMetrics

        registry = WorkerMetrics(self._settings.name, self._pulse, self._pulse.tally).registry()
        return MetricsServer(self._settings.metrics_host, port, registry)

    def run(self) -> None:
        """Work until told to stop.

        Raises:
            BrokerUnavailable: it was not there at the start (later it is waited for, for ever).
            SpecError: this device can do no task: its data or its device are not what they should be.
        """
        with broker_errors(f"reaching the broker at {public_url(self._settings.broker)}"):
            self._client.ping()
        self._consumer.run()
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self._leave()
        if fatal := self._pulse.read().fatal:
            raise SpecError(fatal)

    # -- in the main thread ----------------------------------------------------------------------------------------

    def _on_ready(self) -> None:
        # Started here, after the pool has forked its child: the child inherits no thread in the middle of something.
        log.info("worker is ready", worker=self._settings.name, queues=list(self._settings.queues))
        self._listens.set()
        if not self._thread.is_alive():
            self._thread.start()
            if self._metrics is not None:
                self._metrics.start()

    def _on_stop(self) -> None:
        self._leave_by = time.monotonic() + self._settings.grace_seconds
        self._leaving.set()

    def _leave(self) -> None:
        try:
            self._roster.leave(self._settings.name, self._settings.queues)
        except BrokerError as error:
            log.warning("the roster was not told; it will notice", reason=str(error))
        log.info("worker has left", worker=self._settings.name)

    # -- in the watching thread ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Beat; deliver what an earlier life left; notice when the child died or the grace period is over."""
        last_beat, next_beat, told = 0.0, 0.0, ("", False)
        away_since: float | None = None
        while not self._ended.wait(LOOK_SECONDS):
            vitals = self._pulse.read()
            if vitals.fatal and not self._leaving.is_set():
                self._consumer.stop()
                self._on_stop()
            self._look_after_child(vitals)
            now = time.monotonic()
            # A new task, or none, is told sooner than the next beat: people watch, and losses are found by it. So is
            # that the worker listens (again): whoever counts workers may have forgotten it.
            news = (vitals.holding, self._leaving.is_set())
            if self._listens.is_set():
                self._listens.clear()
            elif now < next_beat and not (news != told and now >= last_beat + NEWS_SECONDS):
                continue
            last_beat, next_beat, told = now, now + BEAT_SECONDS, news
            try:
                next_beat = now + self._beat(vitals)
                if away_since is not None:
                    log.info("the broker is back", away_seconds=round(now - away_since))
                    away_since = None
                self._deliver_kept()
            except BrokerError as error:
                if away_since is None:
                    away_since = now
                    log.warning("the broker is away; training goes on", reason=str(error))

    def _look_after_child(self, vitals: Vitals) -> None:
        if self._leaving.is_set() and time.monotonic() >= self._leave_by and vitals.holding:
            if self._give_up(vitals, "handed_back", "the worker stops"):
                log.info("handed the task back", task=vitals.holding)
                self._pulse.tally.count("handed_back")
            self._leave_by = float("inf")
            self._consumer.terminate_child()
        elif vitals.holding and vitals.pid and not _is_alive(vitals.pid):
            if self._give_up(vitals, "failed", "the training process died (out of memory?)"):
                log.error("the training process died; its task was reported", task=vitals.holding)
                self._pulse.tally.count("failed")
            self._pulse.write(Vitals())

    def _give_up(self, vitals: Vitals, outcome: str, detail: str) -> bool:
        campaign, _, rest = vitals.holding.partition("/")
        task, _, attempt = rest.partition("#")
        try:
            return self._tasks.report(
                TaskReport(
                    campaign=campaign,
                    task_id=task,
                    attempt=int(attempt),
                    worker=self._settings.name,
                    outcome=outcome,
                    detail=detail,
                )
            )
        except BrokerError:
            return False  # the lease runs out, and the coordinator re-issues

    def _beat(self, vitals: Vitals) -> float:
        """Say how this worker is; returns the seconds until it has to say it again."""
        beat = Beat(
            worker=self._settings.name,
            state="leaving" if self._leaving.is_set() else vitals.state,
            queues=self._settings.queues,
            holding=vitals.holding,
            host=shown(platform.node(), 255),
            pid=os.getpid(),
            started_ms=self._started_ms,
            threads=self._settings.threads,
            device=vitals.device,
            num_done=vitals.num_done,
            num_failed=vitals.num_failed,
            bytes_up=vitals.bytes_up,
            bytes_down=vitals.bytes_down,
        )
        self._roster.beat(beat)
        return due_seconds(beat)

    def _deliver_kept(self) -> None:
        """Deliver what an earlier life of this worker could not (the child delivers its own)."""
        if not self._outbox_waits:
            return
        for path, update, payload in Outbox(self._settings.state_dir):
            if update.worker != self._settings.name:
                log.warning("a kept update is another worker's; left alone", file=str(path), worker=update.worker)
                continue
            try:
                wanted = self._tasks.deliver(update, payload)
            except RejectedUpdate as error:
                log.warning("a kept update cannot be delivered", file=str(path), reason=error.detail)
                continue
            path.unlink(missing_ok=True)
            event = "a kept update was delivered" if wanted else "a kept update was not wanted any more"
            log.info(event, campaign=update.campaign, task=update.task_id, digest=update.payload_digest)
        self._outbox_waits = False


class _Child:
    """What the forked child runs. In the parent it only carries the settings over the fork."""

    def __init__(self, settings: WorkerSettings, pulse: Pulse) -> None:
        self._settings = settings
        self._pulse = pulse
        self._parent = os.getpid()
        self._trainer: object = None

    def begin(self) -> None:
        """First thing in the child."""
        end_with_parent(self._parent)
        # If the process before this one died at work, the parent has yet to read which task it held.
        deadline = time.monotonic() + 10 * LOOK_SECONDS
        while self._pulse.read().holding and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS / 10)
        self._pulse.write(Vitals(pid=os.getpid()))

    def end(self) -> None:
        """Last thing in a child that ends in peace."""
        if (account := getattr(self._trainer, "account", None)) is not None:
            account.close()

    def execute(self, order: bytes) -> None:
        """Do one task; the first one loads torch and the data."""
        if self._trainer is None:
            with turn():
                import workers.train_task  # noqa: F401
        from workers.train_task import Trainer

        if not isinstance(self._trainer, Trainer):
            try:
                self._trainer = Trainer(self._settings, self._pulse)
            except SpecError as error:
                self._refuse(order, str(error))
                return
            except Exception as error:
                log.exception("the data factory failed")
                what = f"{type(error).__name__}: {error}"
                self._refuse(order, f"data = {self._settings.data!r} failed ({what}); the log has the traceback.")
                return
        self._trainer.execute(order)

    def _refuse(self, order: bytes, why: str) -> None:
        """This device can do nothing at all: hand the task back, and let the parent end with the reason."""
        try:
            task = TaskCall.from_bytes(order)
            report = TaskReport(
                campaign=task.campaign,
                task_id=task.task_id,
                attempt=task.attempt,
                worker=self._settings.name,
                outcome="handed_back",
                detail=why,
            )
            TaskBroker(connect(self._settings.broker), self._settings.name).report(report)
        except (RejectedUpdate, BrokerError) as error:
            log.warning("the task could not be handed back; the coordinator will notice", reason=str(error))
        self._pulse.write(Vitals(pid=os.getpid(), fatal=why))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
