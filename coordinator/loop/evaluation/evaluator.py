"""Scores versions in a process of its own, so that evaluating never delays a merge.

The first process is forked before the coordinator starts a thread: it inherits torch and the model instead of importing
and building them again. One that is killed is replaced by a new interpreter, which has to do both, because by then
there are threads and connections that a fork would copy. Each reads versions from the broker as a worker would, always
the newest.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import select
import threading
from multiprocessing.process import BaseProcess
from typing import Any

import structlog
import torch

from coordinator.loop.evaluation.evaluating import Trial, serve
from coordinator.loop.evaluation.scoring import Evaluation
from fl_core.broker.bulk.head import Head
from fl_core.clock import MACHINE, Clock
from fl_core.errors import InvariantError
from fl_core.program.outside import follow
from fl_core.program.process import how_it_ended, without_main
from fl_core.program.restarts import FIRST_PAUSE_SECONDS, Restarts
from fl_core.spec import CampaignSpec
from fl_core.trial.findings import Finding
from fl_core.vectors.layout import Layout

MAX_DEATHS = 3
"""So many processes in a row may die over one evaluation."""
NO_PROCESS_PAUSE_SECONDS = 30.0
FIRST_WORD_SECONDS = 60.0
FIRST_DEADLINE_SECONDS = 3600.0
LEAST_DEADLINE_SECONDS = 600.0
DEADLINE_FACTOR = 20
"""Without ``evaluation.timeout_seconds``: an hour for the first evaluation, which loads the data, and then so many
times the longest one until now, but not less than ten minutes."""

log = structlog.get_logger()


class Evaluator:
    """The coordinator's handle on the evaluating process. All of it belongs to one thread, the one that made it.

    A process that dies (killed, out of memory, a crash below Python) is replaced after a pause that doubles, and what
    it was asked for is asked again. One that does not answer in time is ended and replaced, and goes without an answer:
    it would hang again. ``MAX_DEATHS`` in a row without an answer are the end of evaluating.

    Args:
        campaign, url: where versions are read from.
        blobs_place: the server for blobs, where they may be as well; empty for none.
        spec: the campaign's, with ``evaluation.data`` set.
        model, layout: the model, as built by the coordinator.
        trial: what the first process tries before it evaluates; it gives the held-out data, loaded. ``try_first`` has
            to be called then.
        clock: this machine's.
        authority: of the campaign, DER: what the broker shows is held against its coordinators' signatures; empty
            believes it.

    Attributes:
        busy: a request is under way.
        error: why there will be no more scores, in one sentence; None while all is well.
        died: the reason is that the process died or hung again and again; otherwise code that the spec names raised.
    """

    def __init__(
        self,
        campaign: str,
        url: str,
        spec: CampaignSpec,
        model: torch.nn.Module,
        layout: Layout,
        blobs_place: str = "",
        trial: Trial | None = None,
        clock: Clock = MACHINE,
        authority: bytes = b"",
    ) -> None:
        self._clock = clock
        self._campaign, self._url, self._spec, self._blobs_place = campaign, url, spec, blobs_place
        self._authority = authority
        self._restarts = Restarts(MAX_DEATHS, calm_seconds=math.inf)
        self._again_at: float | None = None
        self._asked_at = self._next_word = 0.0
        self._longest_seconds = 0.0
        self._wanted: Head | None = None
        self.busy = False
        self.error: str | None = None
        self.died = False
        # A program with other threads may hold locks at this moment that a forked child would wait for in vain.
        if threading.active_count() == 1:
            self._begin("fork", model, layout, trial)
        else:
            self._begin("spawn", trial=trial)

    def _begin(
        self,
        method: str,
        model: torch.nn.Module | None = None,
        layout: Layout | None = None,
        trial: Trial | None = None,
    ) -> None:
        context: Any = multiprocessing.get_context(method)
        self._connection, far = context.Pipe()
        # Only a forked child has our end of the pipe as well, and has to close it.
        ours = self._connection if method == "fork" else None
        arguments = (
            far, ours, self._campaign, self._url, self._blobs_place, self._spec, model, layout, trial, os.getpid(),
            self._authority,
        )  # fmt: skip
        self._process: BaseProcess = context.Process(target=serve, args=arguments, name="evaluator")
        with without_main():
            self._process.start()
        far.close()
        self._poll = select.poll()
        self._poll.register(self._connection, select.POLLIN)

    @property
    def pid(self) -> int:
        """The present process."""
        return self._process.pid or 0

    def try_first(self, seconds: float, longer: str) -> list[Finding]:
        """What the trial found; after a fault the process is of no use.

        Args:
            seconds, longer: as in ``follow``.
        """
        return follow(self._connection, self._process, seconds, longer)

    def request(self, head: Head | None = None) -> None:
        """Ask for the scores of a version that was published, or if it is gone, or None, of the newest."""
        if self.busy:
            raise InvariantError("an evaluation was asked for while another was under way")
        self.busy = True
        self._wanted = head
        self._ask()

    def _ask(self) -> None:
        self._asked_at = self._clock.monotonic()
        self._next_word = self._asked_at + FIRST_WORD_SECONDS
        with contextlib.suppress(OSError):  # it has died, which is seen next
            self._connection.send(self._wanted)

    @property
    def has_results(self) -> bool:
        """The process has answered, or ended."""
        return self.error is None and self._again_at is None and bool(self._poll.poll(0))

    def take_results(self) -> list[Evaluation]:
        """The evaluations that were finished since the last call; looks after the process as well."""
        results: list[Evaluation] = []
        if self.error is not None:
            return results
        if self._again_at is not None:
            self._replace_when_due()
            return results
        while self.error is None and self._poll.poll(0):
            try:
                kind, value = self._connection.recv()
            except (EOFError, OSError):
                self._note_death()
                break
            if kind == "error":
                self.error, trace = value
                if trace:
                    log.error("the evaluation failed", traceback=trace)
            else:
                results.append(Evaluation(*value))
                self.busy = False
                self._restarts.note_work()
                self._longest_seconds = max(self._longest_seconds, self._clock.monotonic() - self._asked_at)
        if self.busy and self.error is None and self._again_at is None:
            self._look_at_the_time()
        return results

    def _note_death(self) -> None:
        self._connection.close()
        self._see_it_end()
        how = how_it_ended(self._process.exitcode)
        pause = self._restarts.pause_after_death() if self.busy else FIRST_PAUSE_SECONDS
        if pause is None:
            times = f"{self._restarts.in_a_row} times in a row"
            self.error = f"the evaluating process died {times} over one evaluation: it {how}."
            self.died = True
            return
        log.warning("the evaluating process has ended; starting another", it=how, seconds=pause)
        self._again_at = self._clock.monotonic() + pause

    @property
    def _deadline_seconds(self) -> float:
        if (given := self._spec.evaluation.timeout_seconds) is not None:
            return given
        if not self._longest_seconds:
            return FIRST_DEADLINE_SECONDS
        return max(LEAST_DEADLINE_SECONDS, DEADLINE_FACTOR * self._longest_seconds)

    def _end_hung(self) -> None:
        """It has had its time: end it, and do without its answer."""
        self._process.kill()
        self._process.join()
        self._connection.close()
        self.busy = False
        pause = self._restarts.pause_after_death()
        after = f"had no answer after {self._deadline_seconds:g} s"
        if pause is None:
            self.error = f"{self._restarts.in_a_row} evaluations in a row {after}; mend evaluation.data, or allow more."
            self.died = True
            return
        log.warning(
            f"an evaluation {after}; its process was ended, and its version goes without scores",
            another_in_seconds=pause, remedy="see what evaluation.data waits for, or raise evaluation.timeout_seconds",
        )  # fmt: skip
        self._again_at = self._clock.monotonic() + pause

    def _replace_when_due(self) -> None:
        if self._again_at is None or self._clock.monotonic() < self._again_at:
            return
        self._again_at = None
        try:
            self._begin("spawn")
        except OSError as error:
            log.warning("no evaluating process can be started; trying again", reason=str(error))
            self._again_at = self._clock.monotonic() + NO_PROCESS_PAUSE_SECONDS
            return
        if self.busy:
            self._ask()

    def _look_at_the_time(self) -> None:
        seconds = self._clock.monotonic() - self._asked_at
        if seconds >= self._deadline_seconds:
            self._end_hung()
        elif self._clock.monotonic() >= self._next_word:
            self._next_word = self._asked_at + 2 * seconds
            log.warning("an evaluation takes long; versions are merged meanwhile", seconds=round(seconds))

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._see_it_end()

    def _see_it_end(self) -> None:
        """It has been asked to, or has begun to by itself."""
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
