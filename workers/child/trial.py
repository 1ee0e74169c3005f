"""``fedtide-worker --check``: what a task would meet on this device, tried before there is one.

The data is loaded, and for each campaign at hand (a spec's, and those that run on this worker's queues) the model is
built, a few batches are trained twice and the update is encoded, by the code that a task runs and behind the same gate.
"""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch.utils.data import Dataset

from fl_core.aggregation import build_strategy
from fl_core.allowance import AllowList
from fl_core.broker.connection import broker_errors, connect
from fl_core.broker.overview.registry import Registry
from fl_core.broker.url import public_url
from fl_core.built_in import STRATEGIES
from fl_core.codecs import codec
from fl_core.errors import BudgetSpent, DataError, FedtideError
from fl_core.factory import gate
from fl_core.models.build import build_model
from fl_core.privacy.terms import Terms
from fl_core.program.extras import need
from fl_core.secure_aggregation.bounds import MASKED
from fl_core.spec import CampaignSpec, TrainingSection, parse_section
from fl_core.training.batches import count_examples
from fl_core.training.device import pick_device
from fl_core.training.importance import accumulated, score
from fl_core.training.local import LocalTraining
from fl_core.training.method import DeviceTask, build_method
from fl_core.training.order import train_order
from fl_core.trial.attempts import (
    describe_model,
    few,
    judge_buffers,
    judge_training,
    load_data,
    noted_gradients,
    tried,
    try_codec,
)
from fl_core.trial.buffer_watch import BufferWatch
from fl_core.trial.findings import Doing, Finding, Step, faults
from fl_core.vectors import Sends
from fl_core.vectors.agreement import verify_digest
from fl_core.vectors.buffers import BufferRole
from fl_core.vectors.layout import Layout
from fl_core.wire.messages import TrainOrder
from workers.identity.signing import authority_of, trust_of
from workers.settings import WorkerSettings
from workers.store.spending import journal_of

READ_EXAMPLES = 32
TRIED_BATCHES = 4
"""So many batches of examples are given to a method: some divide them into training, validation and test."""


def try_device(settings: WorkerSettings, spec: CampaignSpec | None) -> Iterator[Step]:
    """Everything that can be tried here.

    Args:
        settings: the worker's; ``broker`` may be empty.
        spec: of a campaign that is not launched yet; None for none.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = pick_device(settings.device)
    yield Finding("device", "ok", f"{device} with {torch.get_num_threads()} threads, torch {torch.__version__}")
    dataset = yield from load_data("data", settings.data, settings.data_args, READ_EXAMPLES)
    if spec is not None:
        name = f"{spec.campaign.name} (spec)"
        yield Doing(name, f"building model.factory = {spec.model.factory!r} of {name}")
        yield from _try_order(settings, _order(settings, spec), dataset, device, name)
    if settings.broker:
        yield from _try_broker(settings, dataset, device)
    elif spec is None:
        yield Finding("campaign", "warning", "there was no campaign to try", "name one with --spec, or a --broker")
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    yield Finding("memory", "ok", f"{peak / 1e6:.0f} MB at most while this was tried")


def _try_broker(settings: WorkerSettings, dataset: Dataset[Any], device: torch.device) -> Iterator[Step]:
    where = public_url(settings.broker)
    yield Doing("broker", f"reaching the broker at {where}")
    client = connect(settings.broker, timeout_seconds=5)
    with broker_errors(f"reaching the broker at {where}"):
        client.ping()
    orders = Registry(client).orders(settings.queues, trust_of(settings, client))
    queues = ", ".join(settings.queues)
    running = ", ".join(order.campaign for order in orders) or "no campaign"
    yield Finding("broker", "ok", f"answers at {where}; {running} runs on {queues}")
    for order in orders:
        try:
            yield from _try_order(settings, order, dataset, device, order.campaign)
        except FedtideError as error:  # the others go on
            yield Finding(order.campaign, "fail", str(error))


def _order(settings: WorkerSettings, spec: CampaignSpec) -> TrainOrder:
    """What tasks of this spec would say. A strategy of the author's own need not be installed on a device."""
    with gate(AllowList(settings.allow)):
        model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
        layout = Layout.of(model, spec.model.buffers)
        sends: Sends = build_method(spec.training).sends[0]
    if spec.aggregation.strategy in STRATEGIES:
        sends = build_strategy(spec, layout, layout.flatten(model)).sends
    return train_order(spec.campaign.name, spec, layout, sends)


def _try_order(
    settings: WorkerSettings, order: TrainOrder, dataset: Dataset[Any], device: torch.device, name: str
) -> Iterator[Step]:
    with gate(AllowList(settings.allow)):
        yield Doing(name, f"building model.factory = {order.model_factory!r} of {name}")
        model = build_model(order.model_factory, dict(order.model_args), order.model_seed)
        layout = Layout.of(model, cast(dict[str, BufferRole], dict(order.model_buffers)))
        verify_digest(layout, order.layout_digest)
        yield describe_model(order.model_factory, model, layout)
        model.to(device)
        training = parse_section(TrainingSection, dict(order.training), "training")
        method = build_method(training)
        yield Doing(name, f"training a few batches of data = {settings.data!r} for {name}")
        importance = accumulated(order.codec_args.get("importance", ""))
        task = DeviceTask(
            model=model,
            layout=layout,
            base=layout.flatten(model),
            version=0,
            sends=cast(Sends, order.sends),
            dataset=few(dataset, TRIED_BATCHES * training.batch_size),
            settings=tried(training),
            seed=0,
            device=device,
            worker=settings.name,
            memory={},
            own_model=(lambda: _own_model(settings)) if settings.model else None,
            importance=importance,
        )
        try:
            watch = BufferWatch(model, layout, task.base)
            method.train(task)  # the first time takes longer; the second one meets what a device remembers
            moved = watch.findings(model)
            layout.load_into(model, task.base)
            with noted_gradients(model) as reached:
                outcome = method.train(task)
        except DataError as error:
            raise DataError(f"data = {settings.data!r}: {error}") from None
        # Other methods train a part, a model of the device's own, or with gradients that no hook sees.
        whole = {spec.name for spec in layout.tensors} if training.method != "local" else reached
        judged = list(
            judge_training(layout, task.base.values, layout.flatten(model).values, whole, outcome.training, training)
        )
        yield from judged
        if faults(judged):
            return
        yield from judge_buffers(moved)
        yield from _judge_privacy(settings, order)
        yield from _judge_time(count_examples(dataset), training, outcome.training, order.timeout_seconds)
        ranks = score(order.codec_args.get("importance", ""), layout.weights, outcome.training.importance)
        if order.codec == MASKED:
            need("secure_aggregation", "cryptography", "blake3")
            from fl_core.secure_aggregation.masking import Masking

            Masking.from_args(order.codec_args, layout.num_parameters, authority_of(settings))
            return
        yield from try_codec(codec(order.codec, order.codec_args), outcome.values, ranks if outcome.part == 0 else None)


def _own_model(settings: WorkerSettings) -> torch.nn.Module:
    with gate(None):  # its owner's words
        return build_model(settings.model, settings.model_args, 0)


def _judge_privacy(settings: WorkerSettings, order: TrainOrder) -> Iterator[Finding]:
    """What the campaign may still have of this device."""
    if (terms := Terms.read(order.privacy)) is None and settings.max_epsilon is None:
        return
    try:
        left = journal_of(settings).left(order.campaign, terms)
    except BudgetSpent as error:
        yield Finding("privacy", "fail", str(error))
        return
    if terms is not None and terms.is_local:
        yield Finding(
            "privacy", "ok", f"{left} updates of this device may leave it, with noise of {terms.noise_multiplier:.4g} "
            f"times privacy.clip = {terms.clip:g} in each element",
        )  # fmt: skip


def _judge_time(num_examples: int, training: TrainingSection, done: LocalTraining, limit: float) -> Iterator[Finding]:
    """How long a whole task takes at the pace of the batches that were tried."""
    if training.pace_seconds is not None:
        return
    num_steps = training.local_steps or training.epochs * math.ceil(num_examples / training.batch_size)
    seconds = num_steps * done.seconds / max(1, done.num_steps)
    detail = f"about {seconds:.3g} s for a task of {num_steps} steps"
    if seconds > limit:
        remedy = "raise it, or lower training.local_steps or local_epochs"
        yield Finding("time", "warning", f"{detail}, above dispatch.task_timeout_seconds = {limit:g}", remedy)
    else:
        yield Finding("time", "ok", detail)
