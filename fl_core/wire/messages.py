"""The records that travel, and their format: one msgpack map per record, string keys, no extension types.

=============  ==============================================  ========================================================
record         where it travels                                fields (beside ``v``, the format's version, an int)
=============  ==============================================  ========================================================
TaskCall       Celery message, queue ``fedtide.train.<name>``  campaign, task_id, attempt, queue
TrainOrder     ``fedtide:c:{id}:order``, one per campaign      campaign, incarnation, timeout_seconds, model_factory,
                                                               model_args, model_buffers, model_seed, layout_digest,
                                                               constants_digest, training,
                                                               learning_rate_factor, codec, codec_args, sends,
                                                               privacy
Pointer        ``fedtide:c:{id}:head``, field ``sealed``       campaign, incarnation, fence, version_number, digest,
                                                               num_bytes, codec, place, updates, order, mac
ModelUpdate    update log, field ``u`` (payload in ``p``)      campaign, task_id, attempt, worker, base_version,
                                                               num_examples, sends, part, codec, layout_digest,
                                                               payload_bytes, payload_digest, blob, num_chunks,
                                                               bytes_down, metrics, seconds, boxes, incarnation,
                                                               base_digest, base_mac
TaskReport     update log, field ``r``                         campaign, task_id, attempt, worker, outcome, detail
OperatorReq.   ``fedtide:c:{id}:control``, field ``signed``    campaign, incarnation, request, argument, nonce
CampaignEvent  update log, field ``e`` (its MAC in ``m``)      campaign, sequence, kind, body
Beat           ``fedtide:d:<name>``, one per worker            worker, state, queues, holding, host, pid, started_ms,
                                                               threads, device, num_done, num_failed, bytes_up,
                                                               bytes_down, trouble
=============  ==============================================  ========================================================

Where a campaign has an authority, all of them but doorbells, events and beats travel inside a ``Signed``
(``fl_core/wire/signed.py``), and only there is a ``Pointer`` (``fl_core/broker/bulk/head.py``).

Decoding is strict, because the network is hostile: the size is bounded before anything is allocated, an unknown or
missing field, a wrong type, a value out of range or a newer format is refused with ``RejectedUpdate(malformed)``.
A floating-point field must be finite; a map holds plain values (no extension type), nested at most 16 deep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from fl_core.wire.checks import (
    are_boxes,
    are_names,
    are_numbers,
    is_blob_or_empty,
    is_count,
    is_digest,
    is_digest_or_empty,
    is_finite,
    is_identifier,
    is_label,
    is_map,
    is_name_or_empty,
    is_one_of,
    is_positive,
    is_positive_size,
    is_seed,
    is_share,
    is_size,
    is_text,
)  # fmt: skip
from fl_core.wire.record import Record, checked, checks_of
from fl_core.wire.states import WORKER_STATES, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCall(Record):
    """What a doorbell says: which task. How it is to be done, and from which version, the claim tells (late binding).

    Attributes:
        task_id: unique in the campaign and not guessable; a re-issued task keeps it and raises ``attempt`` (from 1).
    """

    max_bytes: ClassVar[int] = 1024

    campaign: str = checked(is_identifier)
    task_id: str = checked(is_identifier)
    attempt: int = checked(is_positive)
    queue: str = checked(is_identifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOrder(Record):
    """How a campaign's tasks are to be done: written once at the broker, and again where it changes.

    Attributes:
        model_buffers: the roles of buffers that the spec's ``[model]`` names.
        model_seed: the campaign's, for the model's factory, so that what no version carries is equal everywhere: random
            features that are drawn once, and tensors that stay on a device.
        constants_digest: of the constants' bytes (``fl_core/broker/bulk/constants.py``); empty for a model without.
        training: the spec's ``[training]`` section.
        learning_rate_factor: what the coordinator knows to change in it, in (0, 1]: plateaus.
        codec_args: the codec's settings.
        sends: what comes back, ``"delta"`` or ``"parameters"``.
        timeout_seconds: how long the coordinator waits after the worker took the task.
        incarnation: of the campaign's present life; empty where orders are not signed.
        privacy: what devices do for their privacy (``fl_core/privacy/terms.py``); empty for nothing.
    """

    # 2: versions are without constants, and models are built with the campaign's seed. 3: signed orders; privacy.
    version: ClassVar[int] = 3
    since: ClassVar[tuple[str, ...]] = ("incarnation", "privacy")

    campaign: str = checked(is_identifier)
    incarnation: str = checked(is_name_or_empty, default="")
    timeout_seconds: float = checked(is_finite)
    model_factory: str = checked(is_identifier)
    model_args: Mapping[str, Any] = checked(is_map)
    model_buffers: Mapping[str, Any] = checked(is_map, default_factory=dict)
    model_seed: int = checked(is_seed, default=0)
    layout_digest: str = checked(is_digest)
    constants_digest: str = checked(is_digest_or_empty, default="")
    training: Mapping[str, Any] = checked(is_map)
    learning_rate_factor: float = checked(is_share, default=1.0)
    codec: str = checked(is_identifier)
    codec_args: Mapping[str, Any] = checked(is_map, default_factory=dict)
    sends: str = checked(is_one_of("delta", "parameters", "soft_labels"))
    privacy: Mapping[str, Any] = checked(is_map, default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTask(TrainOrder):
    """A task with its order, as a worker has it after the claim; it travels in these two parts."""

    task_id: str = checked(is_identifier)
    attempt: int = checked(is_positive)
    queue: str = checked(is_identifier)

    @classmethod
    def of(cls, call: TaskCall | TrainTask, order: TrainOrder) -> TrainTask:
        """The task that was called for, to be done as ordered."""
        fields = {name: getattr(order, name) for name in checks_of(TrainOrder)}
        return cls(task_id=call.task_id, attempt=call.attempt, queue=call.queue, **fields)

    @property
    def call(self) -> TaskCall:
        """Which task it is."""
        return TaskCall(campaign=self.campaign, task_id=self.task_id, attempt=self.attempt, queue=self.queue)

    @property
    def order(self) -> TrainOrder:
        """How it is to be done."""
        return TrainOrder(**{name: getattr(self, name) for name in checks_of(TrainOrder)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUpdate(Record):
    """What came back from one task; its payload (encoded vector) travels beside it.

    Attributes:
        base_version: the version that training started from.
        num_examples: size of the device's shard.
        part: which part of the model the payload is, from 1; 0 is the whole.
        payload_digest: xxh3-128 of the payload, hex, which guards against accidents; of a signed update BLAKE3, which
            guards against attackers.
        blob: name of the payload's blob (``own_blob``) when it does not ride in the log entry, else empty.
        num_chunks: chunks of that blob, 0 when the payload is inline.
        bytes_down: model bytes fetched for this task (0 on a cache hit).
        metrics: e.g. the mean training loss.
        seconds: parts of the task's life, each measured by one clock: queue, fetch, train, encode.
        boxes: of a masked update, the seeds of its masks, sealed for one keeper each (``fl_core/secure_aggregation``).
        incarnation, base_digest, base_mac: of the version that training started from, as the device found it and its
            ``Pointer`` says; empty where that is not signed.
    """

    # 2: masked updates; where pointers are signed, an update names the version that it starts from by its content.
    version: ClassVar[int] = 2
    since: ClassVar[tuple[str, ...]] = ("boxes", "incarnation", "base_digest", "base_mac")

    campaign: str = checked(is_identifier)
    task_id: str = checked(is_identifier)
    attempt: int = checked(is_positive)
    worker: str = checked(is_identifier)
    base_version: int = checked(is_count)
    num_examples: int = checked(is_positive_size)
    sends: str = checked(is_one_of("delta", "parameters", "soft_labels"))
    part: int = checked(is_count, default=0)
    codec: str = checked(is_identifier)
    layout_digest: str = checked(is_digest)
    payload_bytes: int = checked(is_count)
    payload_digest: str = checked(is_digest)
    blob: str = checked(is_blob_or_empty)
    num_chunks: int = checked(is_count)
    bytes_down: int = checked(is_size)
    metrics: Mapping[str, float] = checked(are_numbers)
    seconds: Mapping[str, float] = checked(are_numbers)
    boxes: tuple[bytes, ...] = checked(are_boxes, default=())
    incarnation: str = checked(is_name_or_empty, default="")
    base_digest: str = checked(is_digest_or_empty, default="")
    base_mac: str = checked(is_digest_or_empty, default="")

    @property
    def names_own_blob(self) -> bool:
        """Whether its blob is one of its own device, task and attempt; of a log of 0.1's first form too."""
        own, before = own_blob(self.worker, self.task_id, self.attempt), f"{self.task_id}.{self.attempt}."
        return self.blob == own or self.blob.startswith((f"{own}.", before))


def own_blob(worker: str, task_id: str, attempt: int) -> str:
    """The name of the payload with which a device answers an attempt of a task; more may follow behind a dot.

    >>> own_blob("pi", "7-ab", 1)
    'pi:7-ab.1'
    """
    return f"{worker}:{task_id}.{attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport(Record):
    """A task that ended on the device without an update.

    Attributes:
        outcome: ``"failed"``: user code raised, an attempt is spent; ``"handed_back"``: the worker stops, none is;
            ``"budget_spent"``: the device may give no more away, none is either.
        detail: one sentence, or the end of a traceback.
    """

    campaign: str = checked(is_identifier)
    task_id: str = checked(is_identifier)
    attempt: int = checked(is_positive)
    worker: str = checked(is_identifier)
    outcome: str = checked(is_one_of("failed", "handed_back", "budget_spent"))
    detail: str = checked(is_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRequest(Record):
    """What an operator asks of a campaign, as it is signed.

    Attributes:
        incarnation: of the campaign's present life: a request is good for one.
        argument: which of the parked updates, to readmit it; else empty.
        nonce: drawn for this request alone: it is good once.
    """

    max_bytes: ClassVar[int] = 1024

    campaign: str = checked(is_identifier)
    incarnation: str = checked(is_identifier)
    request: str = checked(is_one_of(*get_args(Request)))
    argument: str = checked(is_label)
    nonce: str = checked(is_digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(Record):
    """A worker's sign of life.

    Attributes:
        state: idle, loading (torch and the device's data), training, delivering (a finished update waits for the
            broker) or leaving.
        holding: ``campaign/task_id#attempt`` of the task in hand, or empty.
        trouble: what fails on this device again and again, in its own words; empty where all works.
    """

    worker: str = checked(is_identifier)
    state: str = checked(is_one_of(*WORKER_STATES))
    queues: tuple[str, ...] = checked(are_names)
    holding: str = checked(is_label)
    host: str = checked(is_label)
    pid: int = checked(is_count)
    started_ms: int = checked(is_count)
    threads: int = checked(is_count)
    device: str = checked(is_label)
    num_done: int = checked(is_count)
    num_failed: int = checked(is_count)
    bytes_up: int = checked(is_count)
    bytes_down: int = checked(is_count)
    trouble: str = checked(is_label, default="")


def holding_name(campaign: str, task_id: str, attempt: int) -> str:
    """How a beat names the task in hand.

    >>> holding_name("digits-1", "17-a3", 2)
    'digits-1/17-a3#2'
    """
    return f"{campaign}/{task_id}#{attempt}"


def held_task(holding: str) -> tuple[str, str, int]:
    """Campaign, task id and attempt of such a name.

    >>> held_task("digits-1/17-a3#2")
    ('digits-1', '17-a3', 2)
    """
    campaign, _, rest = holding.partition("/")
    task, _, attempt = rest.partition("#")
    return campaign, task, int(attempt)
