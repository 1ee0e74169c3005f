"""Scores versions in a process of its own, so that evaluating never delays a merge.

The process is forked before the coordinator starts a thread: it inherits torch and the model instead of importing and
building them again. It reads each version from the broker as a worker would, always the newest.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import structlog
import torch

from fl_core.broker import versions
from fl_core.broker.blobs import MissingBlob
from fl_core.broker.connection import connect
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.places import Places
from fl_core.codecs import down_codec
from fl_core.errors import BrokerError, FedtideError, InvariantError
from fl_core.factory import call
from fl_core.layout import Layout
from fl_core.process import end_with_parent
from fl_core.spec import CampaignSpec
from fl_core.vectors import Parameters, read_all

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One version's scores; ``accuracy`` is None where the task has none."""

    version: int
    loss: float
    accuracy: float | None
    num_examples: int


class Evaluator:
    """The coordinator's handle on the evaluating process.

    Args:
        campaign, url: where versions are read from.
        spec: the campaign's, with ``evaluation.data`` set.
        model, layout: the model, as built by the coordinator.

    Attributes:
        busy: a request is under way.
        error: why the process ended, in one sentence; None while it is well.
    """

    def __init__(self, campaign: str, url: str, spec: CampaignSpec, model: torch.nn.Module, layout: Layout) -> None:
        context = multiprocessing.get_context("fork")
        self._connection, far = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(far, self._connection, campaign, url, spec, model, layout, os.getpid()),
            name="evaluator",
        )
        self._process.start()
        far.close()
        self._results: list[Evaluation] = []
        self._thread: threading.Thread | None = None
        self.busy = False
        self.error: str | None = None

    def start(self) -> None:
        """Begin to listen for results (a thread: call it once no more processes are forked)."""
        self._thread = threading.Thread(target=self._listen, name="evaluations", daemon=True)
        self._thread.start()

    def request(self) -> None:
        """Ask for the scores of the newest version."""
        if self.busy:
            raise InvariantError("an evaluation was asked for while another was under way")
        self.busy = True
        try:
            self._connection.send("newest")
        except OSError:
            self.error = self.error or "the evaluating process has ended; see the log."

    def take_results(self) -> list[Evaluation]:
        """The evaluations that were finished since the last call."""
        results, self._results = self._results, []
        return results

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _listen(self) -> None:
        while True:
            try:
                kind, value = self._connection.recv()
            except (EOFError, OSError):
                self.error = self.error or "the evaluating process has ended; see the log."
                return
            if kind == "error":
                self.error = value
            else:
                self._results.append(Evaluation(*value))
                self.busy = False


def _serve(
    connection: Connection,
    parents_end: Connection,
    campaign: str,
    url: str,
    spec: CampaignSpec,
    model: torch.nn.Module,
    layout: Layout,
    parent: int,
) -> None:
    """The process: answer each request with the newest version's scores, until the coordinator ends."""
    end_with_parent(parent)
    parents_end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        _answer(connection, campaign, url, spec, model, layout)
    except (EOFError, BrokenPipeError):
        return
    except FedtideError as error:
        connection.send(("error", str(error)))
    except Exception:
        connection.send(("error", f"the evaluation failed:\n{traceback.format_exc(limit=-8)}"))


def _answer(
    connection: Connection, campaign: str, url: str, spec: CampaignSpec, model: torch.nn.Module, layout: Layout
) -> None:
    from fl_core.evaluation import evaluate
    from fl_core.training.device import pick_device

    evaluation = spec.evaluation
    dataset = call(evaluation.data or "", evaluation.data_args, "evaluation.data")
    places, keys = Places(connect(url)), CampaignKeys(campaign)
    device = pick_device()
    model.to(device)
    while True:
        connection.recv()
        head, payload = _newest(places, keys)
        parameters = Parameters(read_all(down_codec(head.codec).decode(payload, layout.num_elements)))
        layout.load_into(model, parameters)
        scores = evaluate(model, dataset, spec.training.loss, evaluation.batch_size, device)
        connection.send(("scores", (head.version, scores.loss, scores.accuracy, scores.num_examples)))


def _newest(places: Places, keys: CampaignKeys) -> tuple[Any, memoryview]:
    while True:
        try:
            return versions.read_newest(places, keys)
        except (BrokerError, MissingBlob) as error:
            log.warning("evaluation waits for the broker", reason=str(error))
            time.sleep(1)
