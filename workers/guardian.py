"""The parent's care for its training child: it reports how a child died, ends what takes too long, and hands back.

A child that dies is replaced by the pool at once. One that dies while it loads, or with nothing to do, will do so
again: after a few times in a row the worker ends with the reason, instead of starting processes for ever.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from fl_core.broker.tasks import TaskBroker
from fl_core.errors import BrokerError
from fl_core.program.process import how_it_ended
from fl_core.program.restarts import Restarts
from fl_core.wire.messages import TaskReport, held_task
from workers.breaker import Breakers
from workers.child.process import OVERDUE_SIGNAL
from workers.pulse import Pulse, Vitals
from workers.settings import WorkerSettings

log = structlog.get_logger()

# After being asked, code that overran its time has so long before it is killed.
ASKED_SECONDS = 5.0
# A task whose device is still loading is given back after so long.
PATIENCE_SECONDS = 60.0
FIRST_WORD_SECONDS = 120.0
MAX_DEATHS_IN_A_ROW = 3


@dataclass(frozen=True, slots=True)
class _Death:
    vitals: Vitals
    how: str


class Guardian:
    """Watches one child after the other.

    Args:
        settings: the worker's.
        pulse: where the child says what it does.
        tasks: for reports; the watching thread's own.
        breakers: of the campaigns; the next child begins with them.
        kill: ends the child now.
        end: ends the worker, with the reason in one sentence.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        pulse: Pulse,
        tasks: TaskBroker,
        breakers: Breakers,
        *,
        kill: Callable[[], None],
        end: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._pulse = pulse
        self._tasks = tasks
        self._breakers = breakers
        self._kill = kill
        self._end = end
        self._deaths: deque[_Death] = deque()
        self._restarts = Restarts(MAX_DEATHS_IN_A_ROW, calm_seconds=math.inf)
        self._work_before = 0
        self._killed_for: tuple[int, str] = (0, "")
        self._asked: tuple[str, float] = ("", 0.0)
        self._late_load = ""
        self._left = False
        self._next_word = FIRST_WORD_SECONDS

    # -- in the main thread ----------------------------------------------------------------------------------------

    def on_death(self, pid: int, status: int) -> None:
        """A child has ended, and the next one is about to be started: note what it did, and wait if it is no use."""
        vitals = self._pulse.read()
        how = how_it_ended(status)
        if self._killed_for[0] == pid:
            how = self._killed_for[1]
        spent = bool(vitals.holding) and vitals.state != "loading"
        self._pulse.write(Vitals(
            num_done=vitals.num_done, num_failed=vitals.num_failed + spent,
            bytes_up=vitals.bytes_up, bytes_down=vitals.bytes_down, fatal=vitals.fatal,
        ))  # fmt: skip
        self._deaths.append(_Death(vitals, how))
        if spent or vitals.num_done + vitals.num_failed != self._work_before:
            self._work_before = vitals.num_done + vitals.num_failed + spent
            self._restarts.note_work()
        if spent:
            took = time.monotonic() - vitals.since if vitals.limit else 0.0
            self._breakers.failed(vitals.holding.partition("/")[0], took, f"the training process {how}"[:200])
            return
        pause = self._restarts.pause_after_death()
        if pause is None:
            doing = f"while it loaded {self._data}" if vitals.state == "loading" else "with nothing to do"
            times = f"{self._restarts.in_a_row} times in a row"
            self._end(f"the training process {how} {doing}, {times}; mend that and start again.")
            return
        time.sleep(pause)

    # -- in the watching thread ------------------------------------------------------------------------------------

    def look(self) -> None:
        """Tell of children that died; end what has taken longer than its task allows."""
        while self._deaths:
            self._tell(self._deaths.popleft())
        vitals = self._pulse.read()
        if self._left:
            return
        if vitals.state == "loading":
            self._look_at_loading(vitals)
            return
        self._next_word = FIRST_WORD_SECONDS
        late = time.monotonic() - vitals.since - vitals.limit
        if not vitals.limit or late < 0 or not vitals.pid:
            return
        if self._asked[0] != vitals.holding:
            self._asked = (vitals.holding, time.monotonic())
            with contextlib.suppress(ProcessLookupError):
                os.kill(vitals.pid, OVERDUE_SIGNAL)
        elif time.monotonic() - self._asked[1] >= ASKED_SECONDS and self._killed_for[0] != vitals.pid:
            why = f"did not finish within task_timeout_seconds = {vitals.limit:g}, was asked to stop, and was killed"
            self._killed_for = (vitals.pid, why)
            with contextlib.suppress(ProcessLookupError):
                os.kill(vitals.pid, signal.SIGKILL)

    def leave(self) -> None:
        """The grace period is over: hand back what is in hand, and end the child."""
        vitals = self._pulse.read()
        self._left = True
        doing = f"it was still loading {self._data}" if vitals.state == "loading" else f"it was still {vitals.state}"
        detail = f"the worker stops, and its grace period is over; {doing}"
        if vitals.holding and self._give_up(vitals, "handed_back", detail):
            log.info("handed the task back", task=vitals.holding, reason=detail)
            self._pulse.tally.count("handed_back")
        self._kill()

    def _look_at_loading(self, vitals: Vitals) -> None:
        seconds = time.monotonic() - vitals.since
        if seconds >= PATIENCE_SECONDS and self._late_load != vitals.holding:
            # Others may have the task. What is loaded is of use for the next one, so loading goes on.
            self._late_load = vitals.holding
            detail = f"{self._data} was not loaded within {PATIENCE_SECONDS:g} s; loading goes on"
            self._give_up(vitals, "handed_back", detail)
            log.warning("handed the task back", task=vitals.holding, reason=detail)
        if seconds >= vitals.limit:
            self._end(f"{self._data} was not loaded within --load-seconds {vitals.limit:g}; see what blocks.")
            self._kill()
        elif seconds >= self._next_word:
            self._next_word *= 2
            log.warning("still loading", data=self._settings.data, seconds=round(seconds))

    def _tell(self, death: _Death) -> None:
        vitals = death.vitals
        if not vitals.holding:
            log.error("the training process died with nothing to do", how=f"it {death.how}")
            return
        loading = vitals.state == "loading"
        detail = f"the training process {death.how}" + (f" while it loaded {self._data}" if loading else "")
        reported = self._give_up(vitals, "handed_back" if loading else "failed", detail)
        self._pulse.tally.count("handed_back" if loading else "failed")
        log.error(
            "the training process died",
            how=f"it {death.how}",
            doing=vitals.state,
            task=vitals.holding,
            reported=reported,
        )

    def _give_up(self, vitals: Vitals, outcome: str, detail: str) -> bool:
        campaign, task, attempt = held_task(vitals.holding)
        try:
            return self._tasks.report(
                TaskReport(
                    campaign=campaign,
                    task_id=task,
                    attempt=attempt,
                    worker=self._settings.name,
                    outcome=outcome,
                    detail=detail,
                )
            )
        except BrokerError:
            return False  # the lease runs out, and the coordinator re-issues

    @property
    def _data(self) -> str:
        return f"data = {self._settings.data!r}"
