"""The Celery consumer inside a worker daemon: one prefork child that trains, one parent that stays responsive.

torch is imported in the child alone: a parent that never loaded it forks safely, stays small, and goes on beating
while the child computes. The parent's signal handlers replace Celery's, because a worker that is asked to stop should
finish its task within a grace period or hand it back, not wait without limit and not drop it.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.process
import os
import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import structlog
from celery import signals
from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool
from celery.exceptions import WorkerLostError, WorkerTerminate
from celery.worker import state as celery_state
from celery.worker.worker import WorkController

from fl_core.broker.doorbell.app import make_app
from fl_core.broker.doorbell.intake import use_intake
from fl_core.broker.doorbell.message import TRAIN
from fl_core.broker.doorbell.remote_control import answer_questions_only
from fl_core.broker.doorbell.shared import SharedClient
from fl_core.broker.keys import train_queue
from fl_core.program.process import end_group

log = structlog.get_logger()


class Consumer:
    """Consumes training tasks until it is asked to stop.

    Args:
        url: the broker.
        worker: this worker's name.
        queues: the device classes that it serves.
        execute: called in the child with the bytes of one ``TrainTask``; it must not raise.
        on_child: called in the child when it starts; it makes the child lead a group of processes, which ends with it.
        on_child_end: called in the child when it ends, unless it is killed.
        on_child_death: called in the parent when a child has ended without being asked to, with its id and exit status
            (negative: the signal), before another one is started.
        on_ready: called in the parent when it listens on its queues, again after each reconnection.
        on_stop: called in the parent, once, when a signal asks it to stop.
        shared: the parent's client, which goes on with the consumer's connection while that does not wait.
        celery_events: answer Celery's own monitoring tools, with connections of the consumer's own.
    """

    def __init__(
        self,
        url: str,
        worker: str,
        queues: Sequence[str],
        *,
        execute: Callable[[bytes], None],
        on_child: Callable[[], None],
        on_child_end: Callable[[], None],
        on_child_death: Callable[[int, int], None],
        on_ready: Callable[[], None],
        on_stop: Callable[[], None],
        shared: SharedClient,
        celery_events: bool = False,
    ) -> None:
        use_intake(None if celery_events else shared)
        answer_questions_only()
        self._app = make_app(url, celery_events=celery_events)
        self._on_stop = on_stop
        self._stopping = False

        def train(order: bytes) -> None:
            try:
                execute(order)
            except Exception:
                log.exception("a task ended in an error that nobody expected")

        # Not shared: it would be every other application's of this process as well.
        self._app.task(name=TRAIN, ignore_result=True, shared=False)(train)

        # The guardian reports a child that died, in one line and in words.
        logging.getLogger("celery.worker.request").addFilter(_is_no_death)

        def quiet(**_: Any) -> None:
            """Celery configures no logging when somebody listens here: ours stays as it is."""

        own_process = multiprocessing.current_process()

        def child(**_: Any) -> None:
            # billiard calls itself the child's process in the standard library too, and a daemonic one: a data factory
            # could not start a DataLoader's workers, or any pool. To the standard library this is a program like any.
            multiprocessing.process._current_process = own_process  # type: ignore[attr-defined]
            # The parent decides when to stop; a Ctrl-C in the terminal reaches the whole process group.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            on_child()

        def child_end(**_: Any) -> None:
            on_child_end()

        # weak=False: these closures live as long as the process.
        signals.setup_logging.connect(quiet, weak=False)
        signals.worker_process_init.connect(child, weak=False)
        signals.worker_process_shutdown.connect(child_end, weak=False)
        self._pool_class = _pool_class(on_child_death)
        self._controller = _Controller(
            app=self._app,
            pool_cls=self._pool_class,
            concurrency=1,
            hostname=f"fedtide@{worker}",
            queues=[train_queue(queue) for queue in queues],
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=not celery_events,
            task_events=celery_events,
            ready_callback=lambda _consumer: on_ready(),
        )

    def run(self) -> None:
        """Consume until SIGTERM, SIGINT or ``stop``; returns when the child has ended.

        Raises:
            Exception: whatever ended Celery's consumer, where nobody asked it to stop.
        """
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)
        try:
            self._controller.start()
        finally:
            end_group(self._pool_class.Pool.newest)  # a child that ends in peace leaves its own children behind
        if self._controller.failure is not None:
            raise self._controller.failure

    def stop(self) -> None:
        """Take no further task; ``run`` returns when the one in hand has ended."""
        celery_state.should_stop = 0

    def kill_child(self) -> None:
        """End the training process now, whatever it and its children do; what it was doing is lost."""
        pool = getattr(self._controller.pool, "_pool", None)
        for process in list(pool._pool) if pool is not None else []:
            os.kill(process.pid, signal.SIGKILL)
            end_group(process.pid)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if not self._stopping:
            self._stopping = True
            self.stop()
            self._on_stop()


def _is_no_death(record: logging.LogRecord) -> bool:
    return WorkerLostError.__name__ not in record.getMessage()


class _Controller(WorkController):  # type: ignore[misc]
    """Celery's, which would log what ended it and return as if nothing had happened."""

    failure: Exception | None = None

    def start(self) -> None:
        """Run the consumer until it is stopped."""
        try:
            self.blueprint.start(self)
        except WorkerTerminate:
            self.terminate()
        except Exception as error:
            self.failure = error
            self.stop(exitcode=1)
        except SystemExit as stopped:
            self.stop(exitcode=stopped.code)


def _pool_class(on_death: Callable[[int, int], None]) -> type[TaskPool]:
    """Celery's pool of processes, which tells of each one that died before it starts the next."""

    class Pool(AsynPool):  # type: ignore[misc]
        newest = 0

        def _create_worker_process(self, i: int) -> Any:
            process = super()._create_worker_process(i)
            Pool.newest = process.pid
            return process

        def _event_process_exit(self, hub: Any, process: Any) -> None:
            # The pipe that tells of an end is closed a moment before the kernel has the exit status. Without it the
            # pool would look again after 5 s.
            give_up = time.monotonic() + 1.0
            while process.exitcode is None and time.monotonic() < give_up:
                time.sleep(0.002)
            super()._event_process_exit(hub, process)

        def _join_exited_workers(self, shutdown: bool = False) -> Any:
            before = list(self._pool)
            for process in before:
                if process.exitcode is not None:
                    process._controlled_termination = True  # billiard would tell it on standard error, past our log
            try:
                return super()._join_exited_workers(shutdown)
            finally:
                left = {process.pid for process in self._pool}
                for process in before:
                    if process.pid not in left:
                        end_group(process.pid)
                        if not shutdown:
                            on_death(process.pid, process.exitcode or 0)

    return type("_TaskPool", (TaskPool,), {"Pool": Pool})
