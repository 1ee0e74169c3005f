"""When simulated devices' training is computed: at the claim, or later and many at once.

What a task comes to is a pure function of what is known at its claim. So it may be computed at any time until it
arrives, with others that are out: those that arrive next are trained as one batch (``fl_core/training/together``).
How long a task takes its device is known beforehand, by the examples that it goes through.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Literal, TypeAlias, cast

import numpy as np
import structlog
import torch

from coordinator.simulation.pool import Pool, trained
from fl_core.errors import SpecError
from fl_core.training.importance import accumulated
from fl_core.training.local import LocalTraining, train_locally
from fl_core.training.method import Outcome
from fl_core.training.methods.local_sgd import LocalSGD
from fl_core.training.one_task import Device, DeviceModel, Done, do_task, finish, seed_of, settings_of
from fl_core.training.together.examples import examples_of
from fl_core.training.together.plan import Assignment, work_of
from fl_core.training.together.train import MAX_BYTES, Together, obstacle
from fl_core.vectors import FloatArray, Parameters, Sends
from fl_core.wire.messages import TrainTask

log = structlog.get_logger()

Way: TypeAlias = Literal["auto", "one_by_one", "together"]
MAX_TOGETHER = 256
# Of the first batch so many are trained one by one as well: to compare what comes out, and the time it takes.
_COMPARED = 8
# Sums in another order; what differs by more than that is another training.
_TOLERANCE = 1e-3


class Work:
    """A device's task, from its claim to its end.

    Attributes:
        task, base, version, device: as of ``do_task``.
        index: which of all devices that is.
        expected: how long the training is, where that is known before it is computed.
        outcome: what a process trains; None where none does.
        assignment: the same for ``Together``; None where it is trained by itself.
        done: what it came to, once that is computed.
    """

    __slots__ = ("assignment", "base", "device", "done", "dropped", "expected", "index", "outcome", "task", "version")

    def __init__(self, task: TrainTask, base: Parameters, version: int, device: Device, index: int) -> None:
        self.task = task
        self.base = base
        self.version = version
        self.device = device
        self.index = index
        self.expected: LocalTraining | None = None
        self.assignment: Assignment | None = None
        self.outcome: Future[Outcome] | None = None
        self.done: Done | None = None
        self.dropped = False


class Training:
    """Trains what devices have claimed.

    Args:
        model: the campaign's, as devices build it.
        task: one of its tasks.
        way: ``one_by_one`` gives the bits of a deployment. ``together`` gives its own, the same at every run, and is
            refused where the model does not allow it. ``auto`` takes the faster one.
        pool: trains what is trained one by one, where it is a device's plain training; None for this process.

    Attributes:
        way: ``one_by_one`` or ``together``; ``auto`` until the first batch has been tried.
        why: why it is not ``together``; empty where it is.
    """

    def __init__(self, model: DeviceModel, task: TrainTask, way: Way, pool: Pool | None = None) -> None:
        self._model = model
        self._pool = pool
        self.way: Way = way
        self.why = "" if way != "one_by_one" else "it was asked for"
        self._together = Together(model.module, model.layout, cast(Sends, task.sends))
        self._order = itertools.count()
        self._out: list[tuple[float, int, Work]] = []
        if not self.why:
            self.why = obstacle(model.module, model.layout, model.settings, model.method)
            if accumulated(task.codec_args.get("importance", "")):
                self.why = "the codec asks for the importance of elements"
            if self.why:
                self._fall_back(self.why)

    def begin(self, work: Work) -> LocalTraining:
        """A device has claimed a task.

        Returns:
            How much it trains; the losses are not those of the training where it has yet to be computed.
        """
        examples = None
        if self.way != "one_by_one" or self._may_pool(work):
            examples = examples_of(work.device.dataset, self._model.settings)
        if examples is None:
            work.done = do_task(work.task, self._model, work.base, work.version, work.device)
            return work.done.outcome.training
        settings = settings_of(work.task, self._model.settings, work.version, work.device)
        work.assignment = Assignment(examples, work.base, settings, seed_of(work.task, work.device.name))
        num_steps, num_seen = work_of(settings, examples.number)
        work.expected = LocalTraining(examples.number, num_steps, 0.0, {}, 0.0, num_seen)
        return work.expected

    def _may_pool(self, work: Work) -> bool:
        device = work.device
        return (
            self._pool is not None
            and type(self._model.method) is LocalSGD
            and device.own_model is None
            and not device.memory
            and not accumulated(work.task.codec_args.get("importance", ""))
        )

    def arrives_at(self, work: Work, moment: float) -> None:
        """It is known when a task ends; those that end first are trained first."""
        if work.done is None and self.way == "one_by_one" and self._pool is not None:
            work.outcome = self._pool.begin(work.task, work.base, work.version, work.index, work.device.speed)
        elif work.done is None:
            heapq.heappush(self._out, (moment, next(self._order), work))

    def drop(self, work: Work) -> None:
        """A task ends without an answer."""
        work.dropped = True

    def result(self, work: Work) -> Done:
        """What a task has come to."""
        if work.outcome is not None:
            outcome = trained(work.outcome)
            work.done = finish(
                work.task, self._model.layout, work.base, work.version, work.device, outcome, outcome.training.seconds
            )
        elif work.done is None and self.way != "one_by_one":
            self._train_batch(work)
        if work.done is None:
            work.done = do_task(work.task, self._model, work.base, work.version, work.device)
        return work.done

    def _train_batch(self, first: Work) -> None:
        batch = self._batch(first)
        assignments = [work.assignment for work in batch if work.assignment is not None]
        try:
            if self.way == "auto":
                self._together.train(assignments[:1])  # the first call loads what all others use
            started = time.perf_counter()
            outcomes = self._together.train(assignments)
        except Exception as error:
            if self.way == "together":
                raise
            self._fall_back(f"its model cannot be mapped over: {str(error).partition(chr(10))[0][:200]}")
            return
        seconds = (time.perf_counter() - started) / len(assignments)
        if self.way == "auto" and (why := self._why_alone(assignments, outcomes, seconds)):
            self._fall_back(why)
            return
        self.way = "together"
        for work, outcome in zip(batch, outcomes, strict=True):
            work.done = finish(
                work.task, self._model.layout, work.base, work.version, work.device, outcome, outcome.training.seconds
            )

    def _batch(self, first: Work) -> list[Work]:
        """``first``, and those that arrive after it, as many as fit."""
        batch = [first]
        assert first.assignment is not None
        size = max(1, first.assignment.examples.num_bytes)
        most = max(1, min(MAX_TOGETHER, MAX_BYTES // max(size, 16 * self._model.layout.num_parameters)))
        while self._out and len(batch) < most:
            _, _, work = heapq.heappop(self._out)
            if work is not first and work.done is None and not work.dropped:
                batch.append(work)
        return batch

    def _why_alone(self, assignments: Sequence[Assignment], outcomes: Sequence[Outcome], seconds: float) -> str:
        """Why assignments are better trained one by one; empty where they are not."""
        compared = list(zip(assignments, outcomes, strict=True))[:_COMPARED]
        started = time.perf_counter()
        alone = [self._alone(one) for one, _ in compared]
        each = (time.perf_counter() - started) / len(compared)
        for values, (one, outcome) in zip(alone, compared, strict=True):
            expected = values - one.base.values if self._together.sends == "delta" else values
            if not np.allclose(outcome.values, expected, rtol=_TOLERANCE, atol=_TOLERANCE * np.abs(expected).max()):
                return "it comes to something else together"
        if each <= seconds:
            return f"one by one is faster, {1000 * each:.1f} ms a task against {1000 * seconds:.1f} ms together"
        log.info("devices train together", at_once=len(assignments), faster=round(each / seconds, 1))
        return ""

    def _alone(self, one: Assignment) -> FloatArray:
        model = self._model
        model.layout.load_into(model.module, one.base)
        train_locally(model.module, one.examples.dataset(), one.settings, seed=one.seed, device=torch.device("cpu"))
        return model.layout.flatten(model.module).values

    def _fall_back(self, why: str) -> None:
        if self.way == "together":
            raise SpecError(f"devices cannot train together: {why}; let them train one by one.")
        self.way, self.why = "one_by_one", why
        self._out.clear()
        log.info("devices train one by one", why=why)
