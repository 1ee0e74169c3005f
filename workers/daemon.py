"""The worker daemon: registers, beats, takes tasks when it is free, and leaves without losing what it has in hand.

Two processes: the parent consumes and beats, its one child trains (``workers/child/process.py``). The child is the only
one that loads torch. The parent has a thread that watches: it beats, looks after the child and the other threads, and
where one of them cannot be helped it ends the program with the reason. No worker takes tasks that nobody looks after.
"""

from __future__ import annotations

import os
import threading
import time

import structlog

from fl_core.broker.connection import connect
from fl_core.broker.doorbell.consumer import Consumer
from fl_core.broker.doorbell.seats import Seats
from fl_core.broker.doorbell.shared import SharedClient
from fl_core.broker.overview.roster import Roster
from fl_core.broker.tasks import TaskBroker
from fl_core.broker.url import public_url
from fl_core.errors import BrokerError, BrokerRefused, SpecError, WorkerFailed
from fl_core.program.command_line import EXIT_BAD_INPUT
from fl_core.program.metrics_server import MetricsServer
from fl_core.wire.messages import held_task
from workers.beats import NEWS_SECONDS, Beats
from workers.child.process import Child
from workers.chore import Chore
from workers.deliveries import Deliveries
from workers.guardian import Guardian
from workers.identity.standing import Standing
from workers.kept import Kept
from workers.passing import HOLD_SECONDS
from workers.pulse import Pulse, Vitals
from workers.settings import WorkerSettings

log = structlog.get_logger()

LOOK_SECONDS = 0.2
# While bytes move, it is said so often.
MOVING_SECONDS = 2.0
SUMMARY_SECONDS = 60.0
# What the worker cannot be without may fail for so long before the worker ends.
MAX_FAILING_SECONDS = 30.0
# Rights and passwords are edited in moments; after so long somebody has to give this device others.
REFUSED_SECONDS = 60.0
# After the grace period, so long may the rest of the program take to end.
LAST_SECONDS = 10.0


class Daemon:
    """One worker.

    Args:
        settings: see ``WorkerSettings``.
        refused_seconds: so long may the broker refuse this worker before it ends.
    """

    def __init__(self, settings: WorkerSettings, *, refused_seconds: float = REFUSED_SECONDS) -> None:
        self._settings = settings
        self._standing = Standing(settings)
        self._client = connect(settings.broker, kind=SharedClient)
        self._client.wanted_in = self._wanted_in
        self._seats = Seats(self._client, settings.broker)
        self._roster = Roster(self._client)
        self._tasks = TaskBroker(self._client, settings.name, settings.blobs)
        self._pulse = Pulse()
        self._child = Child(settings, self._pulse)
        self._leaving = threading.Event()
        self._ended = threading.Event()
        self._leave_by = self._last_moment = float("inf")
        self._reason = ""
        self._kept = Kept()
        self._cuts_seen = 0
        self._moving_told = ("", 0.0)
        self._next_summary, self._summed_up = time.monotonic() + SUMMARY_SECONDS, Vitals()
        self._consumer = Consumer(
            settings.broker,
            settings.name,
            settings.queues,
            execute=self._child.execute,
            on_child=self._child.begin,
            on_child_end=self._child.end,
            on_child_death=self._on_child_death,
            on_ready=self._on_ready,
            on_stop=self._on_stop,
            shared=self._client,
            celery_events=settings.celery_events,
        )
        self._guardian = Guardian(
            settings, self._pulse, self._tasks, self._child.breakers, kill=self._consumer.kill_child, end=self._end_with
        )
        self._beats = Beats(
            settings, self._roster, self._pulse, self._kept, self._leaving, self._standing,
            end=self._end_with, refused_seconds=refused_seconds,
        )  # fmt: skip
        self._beating = Chore("beats", self._beats.look, MAX_FAILING_SECONDS / 6)
        self._looks = Chore("looking after the training process", self._guardian.look, MAX_FAILING_SECONDS / 6)
        self._transfers = Chore("saying that bytes move", self._look_at_transfers)
        self._deliveries = Deliveries(settings, self._kept)
        self._delivering = Chore("delivering kept updates", self._deliveries.deliver)
        self._passing = Chore("passing doorbells on", lambda: self._child.passing.ring(self._client))
        self._thread = threading.Thread(target=self._watch, name="beats", daemon=True)
        self._metrics = None if settings.metrics_port is None else self._bind_metrics(settings.metrics_port)

    def _bind_metrics(self, port: int) -> MetricsServer:
        from workers.metrics import WorkerMetrics

        registry = WorkerMetrics(self._settings.name, self._pulse, self._pulse.tally).registry()
        return MetricsServer(self._settings.metrics_host, port, registry)

    def run(self) -> None:
        """Work until asked to stop.

        Raises:
            BrokerUnavailable: it was not there at the start (later it is waited for, for ever).
            SpecError: this device can do no task: its data or its device are not what they should be.
            WorkerFailed: a part of this program ended that it cannot do without.
        """
        try:
            self._seats.take(f"reaching the broker at {public_url(self._settings.broker)}")
        except BrokerRefused:
            if excluded := self._standing.exclusion():
                raise SpecError(excluded) from None
            raise
        try:
            self._consumer.run()
            if not self._leaving.is_set():
                self._reason = self._reason or "Celery's consumer has ended, and nobody asked it to."
        except Exception as error:
            log.exception("the consumer has failed")
            if not self._leaving.is_set():
                self._reason = self._reason or f"taking tasks has failed ({type(error).__name__}: {str(error)[:200]})."
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self._leave()
        if fatal := self._pulse.read().fatal:
            raise SpecError(fatal)
        if self._reason:
            raise WorkerFailed(self._reason)

    # -- in the main thread ----------------------------------------------------------------------------------------

    def _on_ready(self) -> None:
        # Started here, after the pool has forked its child: the child inherits no thread in the middle of something.
        log.info("worker is ready", worker=self._settings.name, queues=list(self._settings.queues))
        self._seats.leave_to_child()
        self._beats.note_listening()
        if not self._thread.is_alive():
            self._thread.start()
            if self._metrics is not None:
                self._metrics.start()

    def _wanted_in(self) -> float:
        """Seconds until the watching thread wants the connection on which the consumer is about to wait."""
        wanted = self._beats.wanted_in()
        if self._deliveries.is_any_left:  # it is said from time to time that their bytes move
            wanted = min(wanted, NEWS_SECONDS)
        return min(wanted, HOLD_SECONDS) if self._child.passing.holds_any else wanted

    def _on_child_death(self, pid: int, status: int) -> None:
        self._deliveries.look()  # the next child has kept none yet
        self._guardian.on_death(pid, status)

    def _on_stop(self, *, at_once: bool = False) -> None:
        if at_once or not self._leaving.is_set():
            self._leave_by = time.monotonic() + (0.0 if at_once else self._settings.grace_seconds)
            self._last_moment = self._leave_by + LAST_SECONDS
            self._leaving.set()

    def _end_with(self, reason: str, at_once: bool = False) -> None:
        """End the program with a sentence (from any thread); the first reason counts.

        Args:
            at_once: what is in hand is wanted no more.
        """
        if not self._reason:
            self._reason = reason
            log.error("the worker ends", reason=reason)
        self._consumer.stop()
        self._on_stop(at_once=at_once)

    def _leave(self) -> None:
        try:
            self._child.passing.ring(self._client, at_once=True)
            self._roster.leave(self._settings.name, self._settings.queues)
        except BrokerError as error:
            log.warning("the roster could not be written; it will notice", reason=str(error))
        vitals = self._pulse.read()
        log.info("worker has left", worker=self._settings.name, done=vitals.num_done, failed=vitals.num_failed)

    # -- in the watching thread ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Everything that has to go on while the main thread waits for tasks and the child trains."""
        self._deliveries.look()
        threading.Thread(target=self._empty_outbox, name="outbox", daemon=True).start()
        while not self._ended.wait(LOOK_SECONDS):
            self._looks.run()
            if self._client.num_cuts != self._cuts_seen:
                self._cuts_seen = self._client.num_cuts
                self._beats.note_cut()
            self._beating.run()
            if not self._beats.broker_is_away:
                self._transfers.run()
                self._passing.run()
            for chore in (self._looks, self._beating):
                failing = chore.failing_since
                if failing is not None and time.monotonic() - failing >= MAX_FAILING_SECONDS:
                    self._end_with(f"{chore.name} have failed for {MAX_FAILING_SECONDS:g} s ({chore.error}).")
            if self._pulse.read().fatal and not self._leaving.is_set():
                self._end_with(self._pulse.read().fatal)
            self._sum_up()
            now = time.monotonic()
            if now >= self._leave_by:
                self._leave_by = float("inf")
                self._guardian.leave()
            if now >= self._last_moment:
                self._break_off()

    def _sum_up(self) -> None:
        """A line now and then, where anything was done since the last one."""
        if time.monotonic() < self._next_summary:
            return
        before, vitals = self._summed_up, self._pulse.read()
        self._next_summary, self._summed_up = time.monotonic() + SUMMARY_SECONDS, vitals
        done, failed = vitals.num_done - before.num_done, vitals.num_failed - before.num_failed
        if done or failed:
            log.info(
                "tasks", last_seconds=round(SUMMARY_SECONDS), done=done, failed=failed,
                bytes_up=vitals.bytes_up - before.bytes_up, bytes_down=vitals.bytes_down - before.bytes_down,
            )  # fmt: skip

    def _break_off(self) -> None:
        """The main thread does not end (it waits for a broker that is frozen, say)."""
        log.error("ending at once: the consumer did not end", reason=self._reason or "the worker was asked to stop")
        os._exit(EXIT_BAD_INPUT if self._reason else 0)

    def _look_at_transfers(self) -> None:
        """Say of what moves that it does, and end what nobody waits for any more."""
        now = time.monotonic()
        for what, holding in ((self._pulse, self._pulse.read().holding), (self._kept, self._kept.holding)):
            told = self._moving_told[1] if self._moving_told[0] == holding else 0.0
            if not holding or what.moved_at <= told or now < told + MOVING_SECONDS:
                continue
            self._moving_told = (holding, now)
            if not self._tasks.say_moving(*held_task(holding)):
                what.recall(holding)

    # -- in a thread of its own, with a connection of its own while there is something to deliver ---------------------

    def _empty_outbox(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            if self._deliveries.is_any_left and not self._beats.broker_is_away:
                self._delivering.run()
