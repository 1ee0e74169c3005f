"""The Celery consumer inside a worker daemon: one prefork child that trains, one parent that stays responsive.

torch is imported in the child alone: a parent that never loaded it forks safely, stays small, and goes on beating
while the child computes. The parent's signal handlers replace Celery's, because a worker that is asked to stop should
finish its task within a grace period or hand it back, not wait without limit and not drop it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import structlog
from celery import signals
from celery.worker import state as celery_state
from celery.worker.worker import WorkController

from fl_core.broker.celery_app import make_app
from fl_core.broker.doorbell import TRAIN
from fl_core.broker.intake import answer_questions_only, use_intake
from fl_core.broker.keys import train_queue

log = structlog.get_logger()


class Consumer:
    """Consumes training tasks until it is told to stop.

    Args:
        url: the broker.
        worker: this worker's name.
        queues: the device classes that it serves.
        execute: called in the child with the bytes of one ``TrainTask``; it must not raise.
        on_child: called in the child when it starts.
        on_child_end: called in the child when it ends, unless it is killed.
        on_ready: called in the parent when it listens on its queues, again after each reconnection.
        on_stop: called in the parent, once, when a signal asks it to stop.
        celery_events: answer Celery's own monitoring tools.
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
        on_ready: Callable[[], None],
        on_stop: Callable[[], None],
        celery_events: bool = False,
    ) -> None:
        use_intake()
        answer_questions_only()
        self._app = make_app(url, celery_events=celery_events)
        self._on_stop = on_stop
        self._stopping = False

        def train(order: bytes) -> None:
            try:
                execute(order)
            except Exception:
                log.exception("a task ended in an error that nobody expected")

        self._app.task(name=TRAIN, ignore_result=True)(train)

        def quiet(**_: Any) -> None:
            """Celery configures no logging when somebody listens here: ours stays as it is."""

        def child(**_: Any) -> None:
            # The parent decides when to stop; a Ctrl-C in the terminal reaches the whole process group.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            on_child()

        def child_end(**_: Any) -> None:
            on_child_end()

        # weak=False: these closures live as long as the process.
        signals.setup_logging.connect(quiet, weak=False)
        signals.worker_process_init.connect(child, weak=False)
        signals.worker_process_shutdown.connect(child_end, weak=False)
        self._controller = WorkController(
            app=self._app,
            pool_cls="prefork",
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
        """Consume until SIGTERM, SIGINT or ``stop``; returns when the child has ended."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)
        self._controller.start()

    def stop(self) -> None:
        """Take no further task; ``run`` returns when the one in hand has ended."""
        celery_state.should_stop = 0

    def terminate_child(self) -> None:
        """End the training process now; what it was doing is lost."""
        pool = getattr(self._controller.pool, "_pool", None)
        for process in list(pool._pool) if pool is not None else []:
            process.terminate_controlled() if hasattr(process, "terminate_controlled") else process.terminate()

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if not self._stopping:
            self._stopping = True
            self.stop()
            self._on_stop()
