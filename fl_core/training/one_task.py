"""One task on a device: from a base version and private data to what is sent. No broker, no clock of its own, no disk.

A worker's training child and the simulation (``coordinator/simulation``) do a task by this one function, so that the
same task is the same bits in both.
"""

from __future__ import annotations

import math
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias, cast

import structlog
import torch
from torch.utils.data import Dataset

from fl_core.codecs import ErrorFeedback, codec
from fl_core.codecs.model_payload import append_state
from fl_core.errors import InvariantError, SpecError
from fl_core.models.build import build_model
from fl_core.privacy.local import privatised, verify_covered
from fl_core.privacy.terms import Terms
from fl_core.secure_aggregation.bounds import MASKED
from fl_core.spec import TrainingSection, parse_section
from fl_core.training.draft import Draft
from fl_core.training.importance import accumulated, score
from fl_core.training.local import LocalTraining
from fl_core.training.method import DeviceTask, Method, Outcome, build_method
from fl_core.training.pace import SpeedProfile, fit_work
from fl_core.training.schedule import version_factor
from fl_core.vectors import FloatArray, Parameters, Sends
from fl_core.vectors.agreement import as_held, verify_constants, verify_digest, verify_trained
from fl_core.vectors.buffers import BufferRole, LocalTensors
from fl_core.vectors.layout import Layout
from fl_core.wire.checks import MAX_MEASURE
from fl_core.wire.digest import digest, strong_digest
from fl_core.wire.messages import ModelUpdate, TrainOrder, TrainTask

log = structlog.get_logger()

# Changes what a device sends, for trials of hostile devices: the honest values, what they are, and the base's weights.
Alter: TypeAlias = Callable[[FloatArray, Sends, FloatArray], FloatArray]
# Counts an update as given away, so that nothing makes it undone, and gives the 32 secret bytes of its noise.
Spend: TypeAlias = Callable[[TrainTask, Terms], bytes]


class DeviceModel:
    """A campaign's model as a device has built it.

    Attributes:
        module, layout: the model.
        local: what the model holds beside the layout, which is put back before each task.
        settings, method: how this campaign trains.
    """

    def __init__(self, module: torch.nn.Module, layout: Layout, settings: TrainingSection, method: Method) -> None:
        self.module = module
        self.layout = layout
        self.local = LocalTensors(module, {spec.name for spec in layout.tensors})
        self.settings = settings
        self.method = method

    @classmethod
    def build(cls, order: TrainOrder, device: torch.device) -> Self:
        """The model that an order is about.

        Raises:
            LayoutError: what is built here is not the model that the coordinator has.
            SpecError: the factory is not installed or not allowed, or refuses its arguments; so with the training
                method.
        """
        module = build_model(order.model_factory, dict(order.model_args), order.model_seed)
        layout = Layout.of(module, cast(Mapping[str, BufferRole], order.model_buffers))
        verify_digest(layout, order.layout_digest)
        return cls(module.to(device), layout, *training_of(order))


def training_of(order: TrainOrder) -> tuple[TrainingSection, Method]:
    """How an order says that devices train.

    Raises:
        SpecError: it says nothing that can be done here.
    """
    settings = parse_section(TrainingSection, dict(order.training), "the task's training settings")
    return settings, build_method(settings)


@dataclass(slots=True, kw_only=True)
class Device:
    """All that a task uses on a device beside the model; the first seven fields last from one task to the next.

    Attributes:
        name: the worker's.
        dataset: its private data, map-style.
        device: where it trains.
        speed: how fast it has been.
        memory: vectors that its training method keeps for this campaign.
        feedback: what lossy updates of this campaign have left out so far, by part of the model.
        own_model: builds an architecture of its own; None where it has none.
        spare: float32 ``(num_parameters,)`` that the update may be written into; None where there is none.
        should_stop: asked before each step of training.
        emulate_example_seconds: added per example, to play a slow device.
        seconds_of: what a training took by another clock than this machine's; None for as it was measured.
        alter: changes what is sent, to play a hostile device; None for an honest one.
        authority: whose keepers it trusts with the seeds of its masks: a certificate, DER; empty for nobody's.
        spend: counts what an update with local noise gives away, and refuses it (``BudgetSpent``); None where none can
            be made.
    """

    name: str
    dataset: Dataset[Any]
    device: torch.device
    speed: SpeedProfile = field(default_factory=SpeedProfile)
    memory: MutableMapping[str, FloatArray] = field(default_factory=dict)
    feedback: defaultdict[int, ErrorFeedback] = field(default_factory=lambda: defaultdict(ErrorFeedback))
    own_model: Callable[[], torch.nn.Module] | None = None
    spare: FloatArray | None = None
    should_stop: Callable[[], bool] | None = None
    emulate_example_seconds: float = 0.0
    seconds_of: Callable[[LocalTraining], float] | None = None
    alter: Alter | None = None
    spend: Spend | None = None
    authority: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A task that was done.

    Attributes:
        outcome: what the method came to, state, alterations and noise included.
        payload: the update, encoded.
        boxes: of a masked update, the seeds for each keeper.
        train_seconds, encode_seconds: what it took on this machine.
    """

    task: TrainTask
    worker: str
    version: int
    layout_digest: str
    outcome: Outcome
    payload: bytes | memoryview
    train_seconds: float
    encode_seconds: float
    boxes: tuple[bytes, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Of the payload."""
        return memoryview(self.payload).nbytes

    def update(
        self, *, blob: str, num_chunks: int, bytes_down: int, seconds: Mapping[str, float], signed: bool = False
    ) -> ModelUpdate:
        """The header that travels with the payload.

        Args:
            blob, num_chunks: how the payload travels (``payload_place``).
            bytes_down: what was fetched for this task.
            seconds: parts of the task's life.
            signed: the header will be signed, so that the digest has to withstand attackers.
        """
        task, outcome = self.task, self.outcome
        # What is said beside a private update is not covered by the promise, so nothing is.
        tells = not self.boxes and ((terms := Terms.read(task.privacy)) is None or terms.metrics)
        return ModelUpdate(
            campaign=task.campaign,
            task_id=task.task_id,
            attempt=task.attempt,
            worker=self.worker,
            base_version=self.version,
            num_examples=outcome.training.num_examples if tells else 1,
            sends=task.sends,
            part=outcome.part,
            codec=task.codec,
            layout_digest=self.layout_digest,
            payload_bytes=self.num_bytes,
            payload_digest=(strong_digest if signed else digest)(self.payload),
            blob=blob,
            num_chunks=num_chunks,
            bytes_down=bytes_down,
            metrics=_finite({**outcome.training.metrics, **outcome.metrics}) if tells else {},
            seconds=seconds,
            boxes=self.boxes,
        )


def do_task(task: TrainTask, model: DeviceModel, base: Parameters, version: int, device: Device) -> Done:
    """Train from a version and encode what came of it.

    Args:
        task: with its order.
        model: built for that order; its module's tensors are overwritten.
        base: the version's parameters as this device has decoded them, float32 ``(num_elements,)``.
        version: its number.
        device: where it is done; its speed, memory and feedback are brought up to date.

    Raises:
        TrainingStopped: ``should_stop`` said so.
        DataError: the device's data does not fit.
        LayoutError: training has changed what is constant, or trains what is not sent.
    """
    started = time.perf_counter()
    outcome = train_task(task, model, base, version, device)
    return finish(task, model.layout, base, version, device, outcome, time.perf_counter() - started)


def finish(
    task: TrainTask, layout: Layout, base: Parameters, version: int, device: Device, outcome: Outcome, seconds: float
) -> Done:
    """What follows training, in whatever way it was done: the device's clock, its attacks, its noise, the encoding.

    Args:
        outcome: what training came to, its state included.
        seconds: what it took on this machine.

    Raises:
        BudgetSpent, SpecError: with local noise, nothing may leave the device, or not this.
    """
    started = time.perf_counter()
    training = outcome.training
    if device.seconds_of is not None:
        training = replace(training, seconds=device.seconds_of(training))
        outcome = replace(outcome, training=training)
    device.speed.note(task.campaign, training)
    if device.alter is not None:
        sends = cast(Sends, task.sends)  # checked when the task was read
        outcome = replace(outcome, values=device.alter(outcome.values, sends, base.values[layout.trainable]))
    if (terms := Terms.read(task.privacy)) is not None and terms.is_local:
        verify_covered(task.sends, outcome.part, layout.num_state)
        if device.spend is None:
            raise InvariantError("A device that does not count what it gives away was given a task with local noise.")
        outcome = replace(outcome, values=privatised(outcome.values, terms, device.spend(task, terms)))
    encoding = time.perf_counter()
    boxes: tuple[bytes, ...] = ()
    payload: bytes | memoryview
    if task.codec == MASKED:
        payload, boxes = _masked(task, layout, outcome, device)
    else:
        payload = encode(task, layout, outcome, device.name, device.feedback)
    if outcome.state is not None and task.codec != MASKED:
        payload = append_state(payload, layout, outcome.state, base.values[layout.state])
    return Done(
        task=task, worker=device.name, version=version, layout_digest=layout.digest, outcome=outcome, payload=payload,
        boxes=boxes, train_seconds=seconds + encoding - started, encode_seconds=time.perf_counter() - encoding,
    )  # fmt: skip


def settings_of(task: TrainTask, settings: TrainingSection, version: int, device: Device) -> TrainingSection:
    """The campaign's settings for one task: with schedules in the learning rate, and the work that fits the device."""
    rate = settings.learning_rate * task.learning_rate_factor * version_factor(settings, version)
    return fit_work(
        settings.model_copy(update={"learning_rate": rate}), device.speed.seconds_per_example(task.campaign)
    )


def train_task(task: TrainTask, model: DeviceModel, base: Parameters, version: int, device: Device) -> Outcome:
    """The first half of ``do_task``, with the same arguments: what training comes to."""
    layout, sends = model.layout, cast(Sends, task.sends)  # checked when the task was read
    model.local.restore(model.module)
    layout.load_into(model.module, base)
    held = as_held(layout, model.module, base)
    memory = Draft(device.memory)
    outcome = model.method.train(
        DeviceTask(
            model=model.module,
            layout=layout,
            base=held,
            version=version,
            sends=sends,
            dataset=device.dataset,
            settings=settings_of(task, model.settings, version, device),
            seed=seed_of(task, device.name),
            device=device.device,
            worker=device.name,
            memory=memory,
            own_model=device.own_model,
            importance=accumulated(task.codec_args.get("importance", "")),
            spare=device.spare,
            should_stop=device.should_stop,
            emulate_example_seconds=device.emulate_example_seconds,
        )
    )
    if held is not base and sends == "parameters" and not outcome.part:
        rounded_off = base.values[layout.trainable] - held.values[layout.trainable]
        outcome = replace(outcome, values=outcome.values + rounded_off)
    if not memory.keep(outcome.values):
        log.warning("what this task came to is not finite; the device remembers nothing of it")
    if sends != "soft_labels":
        verify_trained(layout, model.module)
        verify_constants(layout, model.module, base)
        state = outcome.state if outcome.state is not None else layout.state_of(model.module)
        outcome = replace(outcome, state=state)
    return outcome


def _masked(task: TrainTask, layout: Layout, outcome: Outcome, device: Device) -> tuple[memoryview, tuple[bytes, ...]]:
    """An update under masks, and the seeds of these in a box for each keeper."""
    from fl_core.program.extras import need

    need("secure_aggregation", "cryptography", "blake3")
    from fl_core.secure_aggregation.masking import Masking

    if task.sends != "delta" or outcome.part or layout.num_state:
        raise SpecError("only deltas of a whole model without running statistics are masked for keepers.")
    masking = Masking.from_args(task.codec_args, layout.num_parameters, device.authority)
    masked, boxes = masking.mask(
        outcome.values, campaign=task.campaign, task_id=task.task_id, attempt=task.attempt, worker=device.name
    )
    return masked.astype("<u4", copy=False).data.cast("B"), boxes


def encode(
    task: TrainTask, layout: Layout, outcome: Outcome, worker: str, feedback: defaultdict[int, ErrorFeedback]
) -> bytes | memoryview:
    """An outcome's values as bytes, without the state; what a lossy codec leaves out is put into ``feedback``."""
    chosen, seed = codec(task.codec, task.codec_args), seed_of(task, worker)
    if not chosen.needs_feedback:
        return chosen.encode(outcome.values, seed)
    kind = task.codec_args.get("importance", "")
    ranks = score(kind, layout.weights, outcome.training.importance) if outcome.part == 0 else None
    return feedback[outcome.part].encode(chosen, outcome.values, seed, ranks)


def seed_of(task: TrainTask, worker: str) -> int:
    """A seed that differs between tasks and workers and is the same on every machine."""
    return zlib.crc32(f"{task.campaign}/{task.task_id}/{worker}".encode())


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value) and abs(value) <= MAX_MEASURE}
