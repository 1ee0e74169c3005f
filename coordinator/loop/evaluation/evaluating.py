"""The process that evaluates: it answers each request with the scores of the newest version."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import astuple
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, TypeAlias, TypeVar

import structlog
import torch
from torch.utils.data import Dataset

from fl_core.broker.bulk.places import Places
from fl_core.broker.connection import connect
from fl_core.broker.keys import CampaignKeys
from fl_core.errors import FedtideError
from fl_core.models.build import build_model
from fl_core.program.logs import configure_logs
from fl_core.program.outside import send_findings
from fl_core.program.process import end_with_parent
from fl_core.spec import CampaignSpec
from fl_core.trial.findings import Step
from fl_core.user_code import RAISED, describe, frames
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
    authority: bytes = b"",
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
        _answer(connection, places, CampaignKeys(campaign), spec, model, layout, dataset, authority)
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
    """The held-out data; None where something went wrong, which was reported."""
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
    authority: bytes,
) -> None:
    from coordinator.loop.evaluation.scorer import Scorer
    from fl_core.training.device import pick_device

    trust = None
    if authority:
        from fl_core.broker.bulk.seen import Seen
        from fl_core.broker.bulk.trust import Trust

        trust = Trust(authority, Seen())
    scorer = Scorer(places, keys, spec, model, layout, pick_device(), dataset, trust)
    while True:
        connection.send(("scores", astuple(scorer.score(connection.recv()))))
