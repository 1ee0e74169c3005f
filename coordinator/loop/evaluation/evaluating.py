"""The process that evaluates: it answers each request with the scores of the newest version."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, TypeAlias, TypeVar

import numpy as np
import structlog
import torch
from torch.utils.data import Dataset

from coordinator.loop.outage import Outage
from fl_core.broker.bulk import blobs, constants, versions
from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.places import Places
from fl_core.broker.connection import connect
from fl_core.broker.keys import CampaignKeys
from fl_core.clock import MACHINE
from fl_core.codecs import down_codec
from fl_core.codecs.model_payload import decode_version
from fl_core.errors import BrokerError, DataError, FedtideError, MissingBlob
from fl_core.factory import call
from fl_core.models.build import build_model
from fl_core.program.logs import configure_logs
from fl_core.program.outside import send_findings
from fl_core.program.process import end_with_parent
from fl_core.spec import CampaignSpec
from fl_core.trial.findings import Step
from fl_core.user_code import RAISED, describe, frames
from fl_core.vectors import FloatArray, Parameters
from fl_core.vectors.agreement import constants_digest
from fl_core.vectors.layout import Layout

T = TypeVar("T")

log = structlog.get_logger()


Trial: TypeAlias = Callable[[CampaignSpec, torch.nn.Module, Layout], Generator[Step, None, Dataset[Any] | None]]


def serve(
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
    own = layout.flatten(model).values[layout.constants].copy()
    fixed = None if own.size else own
    while True:
        head, payload = _fetch(places, keys, connection.recv())
        if fixed is None:
            # A model that was resumed may have others than its factory gives today.
            fixed = _patiently(lambda: _constants(places, keys, own))
        moving = decode_version(down_codec(head.codec), layout, payload)
        layout.load_into(model, Parameters(np.concatenate((moving, fixed)) if fixed.size else moving))
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
    def read() -> tuple[Head, memoryview]:
        if wanted is not None and (payload := versions.read_version(places, keys, wanted)) is not None:
            return wanted, payload
        return versions.read_newest(places, keys)

    return _patiently(read)


def _constants(places: Places, keys: CampaignKeys, own: FloatArray) -> FloatArray:
    shown = constants.shown_digest(places, keys)
    if shown in ("", constants_digest(own)):
        return own
    return np.frombuffer(constants.read_constants(places, keys, shown, blobs.buffer(own.nbytes)), "<f4")


def _patiently(read: Callable[[], T]) -> T:
    outage = Outage()
    while True:
        try:
            return read()
        except (BrokerError, MissingBlob) as error:
            if outage.is_worth_a_word():
                log.warning("evaluation waits for the broker", reason=str(error))
            MACHINE.wait(outage.next_pause())
