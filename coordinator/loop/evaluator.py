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
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeAlias

import structlog
import torch
from torch.utils.data import Dataset

from coordinator.loop.outage import Outage
from fl_core.broker.bulk import versions
from fl_core.broker.bulk.places import Places
from fl_core.broker.connection import connect
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.tasks import Head
from fl_core.codecs import down_codec
from fl_core.codecs.model_payload import decode_version
from fl_core.errors import BrokerError, DataError, FedtideError, InvariantError, MissingBlob
from fl_core.factory import call
from fl_core.models.build import build_model
from fl_core.program.logs import configure_logs
from fl_core.program.outside import follow, send_findings
from fl_core.program.process import end_with_parent, how_it_ended, without_main
from fl_core.program.restarts import FIRST_PAUSE_SECONDS, Restarts
from fl_core.spec import CampaignSpec
from fl_core.trial.findings import Finding, Step
from fl_core.user_code import RAISED, describe, frames
from fl_core.vectors import Parameters
from fl_core.vectors.layout import Layout

log = structlog.get_logger()

MAX_DEATHS = 3
"""So many processes in a row may die over one evaluation."""
NO_PROCESS_PAUSE_SECONDS = 30.0
FIRST_WORD_SECONDS = 60.0
FIRST_DEADLINE_SECONDS = 3600.0
LEAST_DEADLINE_SECONDS = 600.0
DEADLINE_FACTOR = 20
"""Without ``evaluation.timeout_seconds``: an hour for the first evaluation, which loads the data, and then so many
times the longest one until now, but not less than ten minutes."""
Trial: TypeAlias = Callable[[CampaignSpec, torch.nn.Module, Layout], Generator[Step, None, Dataset[Any] | None]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One version's scores; a number that cannot be had is None."""

    version: int
    loss: float
    metrics: dict[str, float | None]
    num_examples: int


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
    ) -> None:
        self._campaign, self._url, self._spec, self._blobs_place = campaign, url, spec, blobs_place
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
        )  # fmt: skip
        self._process: BaseProcess = context.Process(target=_serve, args=arguments, name="evaluator")
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
        self._asked_at = time.monotonic()
        self._next_word = self._asked_at + FIRST_WORD_SECONDS
        with contextlib.suppress(OSError):  # it has died, which is seen next
            self._connection.send(self._wanted)

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
                self._longest_seconds = max(self._longest_seconds, time.monotonic() - self._asked_at)
        if self.busy and self.error is None and self._again_at is None:
            self._look_at_the_time()
        return results

    def _note_death(self) -> None:
        self._connection.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        how = how_it_ended(self._process.exitcode)
        pause = self._restarts.pause_after_death() if self.busy else FIRST_PAUSE_SECONDS
        if pause is None:
            times = f"{self._restarts.in_a_row} times in a row"
            self.error = f"the evaluating process died {times} over one evaluation: it {how}."
            self.died = True
            return
        log.warning("the evaluating process has ended; starting another", it=how, seconds=pause)
        self._again_at = time.monotonic() + pause

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
        self._again_at = time.monotonic() + pause

    def _replace_when_due(self) -> None:
        if self._again_at is None or time.monotonic() < self._again_at:
            return
        self._again_at = None
        try:
            self._begin("spawn")
        except OSError as error:
            log.warning("no evaluating process can be started; trying again", reason=str(error))
            self._again_at = time.monotonic() + NO_PROCESS_PAUSE_SECONDS
            return
        if self.busy:
            self._ask()

    def _look_at_the_time(self) -> None:
        seconds = time.monotonic() - self._asked_at
        if seconds >= self._deadline_seconds:
            self._end_hung()
        elif time.monotonic() >= self._next_word:
            self._next_word = self._asked_at + 2 * seconds
            log.warning("an evaluation takes long; versions are merged meanwhile", seconds=round(seconds))

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(
    connection: Connection,
    parents_end: Connection | None,
    campaign: str,
    url: str,
    blobs_place: str,
    spec: CampaignSpec,
    model: torch.nn.Module | None,
    layout: Layout | None,
    trial: Trial | None,
    parent: int,
) -> None:
    """The process: try the campaign if asked to, then answer each request with the newest version's scores.

    It goes on until the coordinator ends.
    """
    end_with_parent(parent)
    if parents_end is not None:
        parents_end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    evaluation = f"evaluation.data = {spec.evaluation.data!r}"
    try:
        if model is None or layout is None:  # a new interpreter
            configure_logs()
            torch.set_num_threads(1)
            model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
            layout = Layout.of(model, spec.model.buffers)
        dataset = None
        if trial is not None:
            dataset = _try(connection, partial(trial, spec, model, layout))
            if dataset is None:
                return
        places = Places(connect(url), [blobs_place])
        _answer(connection, places, CampaignKeys(campaign), spec, model, layout, dataset)
    except (EOFError, BrokenPipeError):
        return
    except FedtideError as error:
        connection.send(("error", (str(error), "")))
    except RAISED as error:
        said = f"{evaluation}: the evaluation raised {describe(error, spec.evaluation.data or '')}; mend it."
        connection.send(("error", (said, frames(error))))


def _try(
    connection: Connection, trial: Callable[[], Generator[Step, None, Dataset[Any] | None]]
) -> Dataset[Any] | None:
    """The held-out data; None where something went wrong, which was told."""
    held: list[Dataset[Any] | None] = []

    def steps() -> Iterator[Step]:
        held.append((yield from trial()))

    return held[0] if send_findings(connection, steps()) else None


def _answer(
    connection: Connection,
    places: Places,
    keys: CampaignKeys,
    spec: CampaignSpec,
    model: torch.nn.Module,
    layout: Layout,
    dataset: Dataset[Any] | None,
) -> None:
    from fl_core.metrics.evaluation import evaluate
    from fl_core.training.device import pick_device

    evaluation = spec.evaluation
    data = evaluation.data or ""
    if dataset is None:
        dataset = call(data, evaluation.data_args, "evaluation.data")
    device = pick_device()
    model.to(device)
    while True:
        head, payload = _fetch(places, keys, connection.recv())
        parameters = Parameters(decode_version(down_codec(head.codec), layout, payload))
        layout.load_into(model, parameters)
        scores = evaluate(
            model, dataset, spec.training, evaluation.batch_size, device,
            metrics=None if spec.has_optional_metrics else spec.metrics,
            factory=spec.model.factory, data=("evaluation.data", data),
        )  # fmt: skip
        if scores.loss is None:
            raise DataError(
                f"evaluation.data = {data!r}: no target of its {scores.num_examples} examples counts; name held-out "
                "data with labels."
            )
        connection.send(("scores", (head.version, scores.loss, scores.metrics, scores.num_examples)))


def _fetch(places: Places, keys: CampaignKeys, wanted: Head | None) -> tuple[Head, memoryview]:
    outage = Outage()
    while True:
        try:
            if wanted is not None and (payload := versions.read_version(places, keys, wanted)) is not None:
                return wanted, payload
            return versions.read_newest(places, keys)
        except (BrokerError, MissingBlob) as error:
            if outage.is_worth_a_word():
                log.warning("evaluation waits for the broker", reason=str(error))
            time.sleep(outage.next_pause())
