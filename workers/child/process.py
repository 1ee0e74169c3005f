"""The training child: a separate process, because it runs people's code.

That code may raise, hang, exit or crash. What it raises ends here; the rest the parent sees from outside
(``workers/guardian.py``): it reads in shared memory what the child does, since when, and for how long it may.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import structlog

from fl_core.broker.connection import connect
from fl_core.broker.tasks import TaskBroker
from fl_core.errors import BrokerError, RejectedUpdate, SpecError
from fl_core.program.process import end_with_parent, lead_group
from fl_core.program.redaction import redact
from fl_core.user_code import what_was_raised
from fl_core.wire.messages import TaskCall, TaskReport, holding_name
from workers.breaker import Breakers
from workers.child.loading_turns import turn
from workers.identity.signing import seal_of
from workers.passing import Passing
from workers.pulse import Pulse
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from workers.child.train_task import Trainer

log = structlog.get_logger()

# Asks the child to give up what takes longer than its task may.
OVERDUE_SIGNAL = signal.SIGUSR2
PAUSE_SECONDS = 1.0


class Child:
    """What the forked child runs. In the parent it only carries what lasts over the fork.

    Attributes:
        breakers: which campaigns fail here; of those whose code killed a child the parent knows (``Guardian``).
        passing: the way of doorbells that are for others.
    """

    def __init__(self, settings: WorkerSettings, pulse: Pulse) -> None:
        self._settings = settings
        self._pulse = pulse
        self._parent = os.getpid()
        self.breakers = Breakers()
        self.passing = Passing(self.breakers)
        self._process = 0
        self._trainer: Trainer | None = None

    def begin(self) -> None:
        """First thing in the child."""
        end_with_parent(self._parent)
        lead_group()
        # Where memory runs out, the kernel shall take this process: its parent can still say so.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("500")
        self._pulse.write(replace(self._pulse.read(), pid=os.getpid()))

    def end(self) -> None:
        """Last thing in a child that ends in peace."""
        if self._trainer is not None:
            self._trainer.close()

    def execute(self, order: bytes) -> None:
        """Do one task; the first one loads torch and the data."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._take_signals()
        trainer = self._trainer or self._load(order)
        if trainer is not None:
            trainer.execute(order)

    # -- signals ---------------------------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        """Not earlier: the pool sets its own after ``begin``."""
        signal.signal(signal.SIGTERM, self._stay)
        signal.signal(OVERDUE_SIGNAL, self._on_overdue)

    def _stay(self, signum: int, frame: FrameType | None) -> None:
        """A signal to the whole group is meant for the parent, which lets the task in hand end in order."""
        if os.getpid() != self._process:  # a process that user code has forked; it is not ours to keep
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    def _on_overdue(self, signum: int, frame: FrameType | None) -> None:
        if self._trainer is not None and os.getpid() == self._process:
            self._trainer.interrupt()

    # -- loading ---------------------------------------------------------------------------------------------------

    def _load(self, order: bytes) -> Trainer | None:
        try:
            task = TaskCall.from_bytes(order)
        except RejectedUpdate as error:
            log.error("a task that cannot be read was dropped", reason=error.detail)
            return None
        self._pulse.write(
            replace(
                self._pulse.read(),
                pid=os.getpid(),
                state="loading",
                holding=holding_name(task.campaign, task.task_id, task.attempt),
                since=time.monotonic(),
                limit=self._settings.load_seconds,
            )
        )
        data = f"data = {self._settings.data!r}"
        try:
            log.info("loading torch", worker=self._settings.name)
            started = time.monotonic()
            with turn():
                from workers.child.train_task import Trainer
            log.info("torch is loaded", worker=self._settings.name, seconds=round(time.monotonic() - started, 1))
            self._trainer = Trainer(self._settings, self._pulse, self.breakers, self.passing)
        except SpecError as error:
            self._refuse(task, str(error))
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            log.exception("the data factory failed")
            self._refuse(task, f"{data} failed: it {what_was_raised(error)}; the log has the traceback.")
        return self._trainer

    def _refuse(self, task: TaskCall, why: str) -> None:
        """This device can do nothing at all: hand the task back, and let the parent end with the reason."""
        why = redact(why.encode("utf-8", "replace").decode())
        try:
            report = TaskReport(
                campaign=task.campaign,
                task_id=task.task_id,
                attempt=task.attempt,
                worker=self._settings.name,
                outcome="handed_back",
                detail=why[:2000],
            )
            client = connect(self._settings.broker)
            TaskBroker(client, self._settings.name, seal=seal_of(self._settings)).report(report)
        except (RejectedUpdate, BrokerError) as error:
            log.warning("the task could not be handed back; the coordinator will notice", reason=str(error))
        self._pulse.write(replace(self._pulse.read(), state="idle", holding="", limit=0.0, fatal=why))
        time.sleep(PAUSE_SECONDS)  # take no further task until the parent has seen it
