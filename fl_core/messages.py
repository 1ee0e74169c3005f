"""The records that travel, and their format: one msgpack map per record, string keys, no extension types.

=============  ==============================================  ========================================================
record         where it travels                                fields (beside ``v``, the format's version, an int)
=============  ==============================================  ========================================================
TaskCall       Celery message, queue ``fedtide.train.<name>``  campaign, task_id, attempt, queue
TrainOrder     ``fedtide:c:{id}:order``, one per campaign      campaign, timeout_seconds, model_factory, model_args,
                                                               model_buffers, layout_digest, training,
                                                               learning_rate_factor, codec, codec_args, sends
ModelUpdate    update log, field ``u`` (payload in ``p``)      campaign, task_id, attempt, worker, base_version,
                                                               num_examples, sends, part, codec, layout_digest,
                                                               payload_bytes, payload_digest, blob, num_chunks,
                                                               bytes_down, metrics, seconds
TaskReport     update log, field ``r``                         campaign, task_id, attempt, worker, outcome, detail
CampaignEvent  update log, field ``e`` (its MAC in ``m``)      campaign, sequence, kind, body
Beat           ``fedtide:beats``, one per worker               worker, state, queues, holding, host, pid, started_ms,
                                                               threads, device, num_done, num_failed, bytes_up,
                                                               bytes_down, trouble
=============  ==============================================  ========================================================

Decoding is strict, because the network is hostile: the size is bounded before anything is allocated, an unknown or
missing field, a wrong type, a value out of range or a newer format is refused with ``RejectedUpdate(malformed)``.
A floating-point field must be finite; a map holds plain values (no extension type), nested at most 16 deep.
"""

from __future__ import annotations

import dataclasses
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import msgpack

from fl_core.errors import Reason, RejectedUpdate

FORMAT_VERSION = 1
MAX_RECORD_BYTES = 64 * 1024
MAX_DETAIL_CHARACTERS = 8_000
MAX_LABEL_CHARACTERS = 400
MAX_MAP_ITEMS = 1024
MAX_LIST_ITEMS = 4096
# One event may issue a whole campaign's tasks, one list entry each: dispatch.concurrency goes up to 100 000.
MAX_EVENT_ITEMS = 2**17

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,127}")
_HEX_DIGEST = re.compile(r"[0-9a-f]{16,64}")
_MAX_INT = 2**53
# No update, model or count of examples is larger; the sum over a campaign stays far below what msgpack and JSON hold.
_MAX_SIZE = 2**40
# What a device measures of itself is smaller; sums of squares of it stay finite.
MAX_MEASURE = 1e15
_MAX_DEPTH = 16

# A hostile value is shown in part only: its full repr may be long, or nested beyond Python's recursion limit.
_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 80


def _malformed(detail: str) -> RejectedUpdate:
    return RejectedUpdate(Reason.MALFORMED, detail)


Check = Callable[[Any], bool]


def is_identifier(value: Any) -> bool:
    """Whether this may name a campaign, a task, a worker, a queue or a codec."""
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def _name_or_empty(value: Any) -> bool:
    return value == "" or is_identifier(value)


def _digest(value: Any) -> bool:
    return isinstance(value, str) and _HEX_DIGEST.fullmatch(value) is not None


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_DETAIL_CHARACTERS and _is_utf8(value)


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MAX_INT


def _positive(value: Any) -> bool:
    return type(value) is int and 0 < value < _MAX_INT


def _size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_SIZE


def _some(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MAX_SIZE


def _label(value: Any) -> bool:
    """One line of text that a screen can take."""
    return isinstance(value, str) and len(value) <= MAX_LABEL_CHARACTERS and value.isprintable()


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _share(value: Any) -> bool:
    return _finite(value) and 0 < value <= 1


def _is_utf8(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as in a file name that is not text
        return False
    return True


def _plain(value: Any, max_items: int, depth: int = 0) -> bool:
    """What msgpack has without extensions, in bounds that every receiver takes."""
    kind = type(value)
    if kind is str:  # the commonest first: this is done for every task and update
        return _is_utf8(value)
    if kind is float or kind is bool:
        return True
    match value:
        case None | bool() | float() | bytes():
            return True
        case str():
            return _is_utf8(value)
        case int():
            return -(2**63) <= value < 2**64
        case dict():
            if depth >= _MAX_DEPTH or len(value) > MAX_MAP_ITEMS:
                return False
            for key, item in value.items():
                if not (isinstance(key, str) and _is_utf8(key) and _plain(item, max_items, depth + 1)):
                    return False
            return True
        case _:
            items = type(value) in (list, tuple) and depth < _MAX_DEPTH and len(value) <= max_items
            return items and all(_plain(item, max_items, depth + 1) for item in value)


def _map(value: Any) -> bool:
    return isinstance(value, dict) and _plain(value, MAX_LIST_ITEMS)


def _event_body(value: Any) -> bool:
    return isinstance(value, dict) and _plain(value, MAX_EVENT_ITEMS)


def _numbers(value: Any) -> bool:
    return isinstance(value, dict) and len(value) <= 64 and _short_names(value) and all(map(_measure, value.values()))


def _measure(value: Any) -> bool:
    return _finite(value) and abs(value) <= MAX_MEASURE


def _short_names(value: Any) -> bool:
    return all(isinstance(key, str) and len(key) <= 64 and key.isprintable() for key in value)


def _names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) <= 64 and all(is_identifier(name) for name in value)


def _one_of(*choices: str) -> Check:
    def check(value: Any) -> bool:
        return isinstance(value, str) and value in choices

    return check


def _checked(check: Check, **more: Any) -> Any:
    return field(metadata={"check": check}, **more)


_CHECKS: dict[type, dict[str, Check]] = {}


def _checks(record: type[_Record]) -> dict[str, Check]:
    """The record's fields by name, each with its check."""
    if record not in _CHECKS:
        _CHECKS[record] = {field.name: field.metadata["check"] for field in dataclasses.fields(record)}
    return _CHECKS[record]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What the records share: a strict msgpack map, each field with its own check."""

    max_bytes: ClassVar[int] = MAX_RECORD_BYTES
    max_items: ClassVar[int] = MAX_LIST_ITEMS

    def to_bytes(self) -> bytes:
        """The record as one msgpack map.

        Raises:
            RejectedUpdate: a field does not pass its own check, so no receiver would take it (malformed).
        """
        fields = {name: getattr(self, name) for name in _checks(type(self))}
        self._verify(fields)
        packed: bytes = msgpack.packb({"v": FORMAT_VERSION, **fields})
        if len(packed) > self.max_bytes:
            raise _malformed(f"{type(self).__name__} takes {len(packed)} bytes, more than {self.max_bytes}")
        return packed

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Self:
        """Decode one record; nothing in ``data`` is trusted.

        Raises:
            RejectedUpdate: ``data`` is not exactly one such record (malformed).
        """
        if len(data) > cls.max_bytes:
            raise _malformed(f"{cls.__name__} of {len(data)} bytes, more than {cls.max_bytes}")
        try:
            fields = msgpack.unpackb(
                data,
                raw=False,
                strict_map_key=True,
                max_ext_len=0,
                max_map_len=MAX_MAP_ITEMS,
                max_array_len=cls.max_items,
            )
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
            raise _malformed(f"{cls.__name__} is not msgpack: {str(error)[:100] or type(error).__name__}") from None
        if not isinstance(fields, dict):
            raise _malformed(f"{cls.__name__} is a {type(fields).__name__}, not a map")
        version = fields.pop("v", None)
        if type(version) is not int or version != FORMAT_VERSION:
            shown = _brief.repr(version)
            raise _malformed(f"{cls.__name__} has format version {shown}, this program reads {FORMAT_VERSION}")
        cls._verify(fields)
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})

    @classmethod
    def _verify(cls, fields: Mapping[str, Any]) -> None:
        known = _checks(cls)
        if fields.keys() != known.keys():
            wrong = sorted(fields.keys() ^ known.keys(), key=str)[0]
            verdict = "unknown" if wrong in fields else "missing"
            raise _malformed(f"{cls.__name__} field {_brief.repr(wrong)} is {verdict}")
        for name, check in known.items():
            if not check(fields[name]):
                raise _malformed(
                    f"{cls.__name__} field {name!r} has the unacceptable value {_brief.repr(fields[name])}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCall(_Record):
    """What a doorbell says: which task. How it is to be done, and from which version, the claim tells (late binding).

    Attributes:
        task_id: unique in the campaign and not guessable; a re-issued task keeps it and raises ``attempt`` (from 1).
    """

    max_bytes: ClassVar[int] = 1024

    campaign: str = _checked(is_identifier)
    task_id: str = _checked(is_identifier)
    attempt: int = _checked(_positive)
    queue: str = _checked(is_identifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOrder(_Record):
    """How a campaign's tasks are to be done: written once at the broker, and again where it changes.

    Attributes:
        model_buffers: the roles of buffers that the spec's ``[model]`` names.
        training: the spec's ``[training]`` section.
        learning_rate_factor: what the coordinator knows to change in it, in (0, 1]: plateaus.
        codec_args: the codec's settings.
        sends: what comes back, ``"delta"`` or ``"parameters"``.
        timeout_seconds: how long the coordinator waits after the worker took the task.
    """

    campaign: str = _checked(is_identifier)
    timeout_seconds: float = _checked(_finite)
    model_factory: str = _checked(is_identifier)
    model_args: Mapping[str, Any] = _checked(_map)
    model_buffers: Mapping[str, Any] = _checked(_map, default_factory=dict)
    layout_digest: str = _checked(_digest)
    training: Mapping[str, Any] = _checked(_map)
    learning_rate_factor: float = _checked(_share, default=1.0)
    codec: str = _checked(is_identifier)
    codec_args: Mapping[str, Any] = _checked(_map, default_factory=dict)
    sends: str = _checked(_one_of("delta", "parameters", "soft_labels"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTask(TrainOrder):
    """A task with its order, as a worker has it after the claim; it travels in these two parts."""

    task_id: str = _checked(is_identifier)
    attempt: int = _checked(_positive)
    queue: str = _checked(is_identifier)

    @classmethod
    def of(cls, call: TaskCall | TrainTask, order: TrainOrder) -> TrainTask:
        """The task that was called for, to be done as ordered."""
        fields = {name: getattr(order, name) for name in _checks(TrainOrder)}
        return cls(task_id=call.task_id, attempt=call.attempt, queue=call.queue, **fields)

    @property
    def call(self) -> TaskCall:
        """Which task it is."""
        return TaskCall(campaign=self.campaign, task_id=self.task_id, attempt=self.attempt, queue=self.queue)

    @property
    def order(self) -> TrainOrder:
        """How it is to be done."""
        return TrainOrder(**{name: getattr(self, name) for name in _checks(TrainOrder)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUpdate(_Record):
    """What came back from one task; its payload (encoded vector) travels beside it.

    Attributes:
        base_version: the version that training started from.
        num_examples: size of the device's shard.
        part: which part of the model the payload is, from 1; 0 is the whole.
        payload_digest: xxh3-128 of the payload, hex; guards against accidents, not against attackers.
        blob: name of the payload's blob when it does not ride in the log entry, else empty.
        num_chunks: chunks of that blob, 0 when the payload is inline.
        bytes_down: model bytes fetched for this task (0 on a cache hit).
        metrics: e.g. the mean training loss.
        seconds: parts of the task's life, each measured by one clock: queue, fetch, train, encode.
    """

    campaign: str = _checked(is_identifier)
    task_id: str = _checked(is_identifier)
    attempt: int = _checked(_positive)
    worker: str = _checked(is_identifier)
    base_version: int = _checked(_count)
    num_examples: int = _checked(_some)
    sends: str = _checked(_one_of("delta", "parameters", "soft_labels"))
    part: int = _checked(_count, default=0)
    codec: str = _checked(is_identifier)
    layout_digest: str = _checked(_digest)
    payload_bytes: int = _checked(_count)
    payload_digest: str = _checked(_digest)
    blob: str = _checked(_name_or_empty)
    num_chunks: int = _checked(_count)
    bytes_down: int = _checked(_size)
    metrics: Mapping[str, float] = _checked(_numbers)
    seconds: Mapping[str, float] = _checked(_numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport(_Record):
    """A task that ended on the device without an update.

    Attributes:
        outcome: ``"failed"``: user code raised, an attempt is spent; ``"handed_back"``: the worker stops, none is.
        detail: one sentence, or the end of a traceback.
    """

    campaign: str = _checked(is_identifier)
    task_id: str = _checked(is_identifier)
    attempt: int = _checked(_positive)
    worker: str = _checked(is_identifier)
    outcome: str = _checked(_one_of("failed", "handed_back"))
    detail: str = _checked(_text)


EventKind = Literal[
    "opened",
    "issued",
    "reissued",
    "expired",
    "paused",
    "resumed",
    "interrupted",
    "stopped",
    "evaluated",
    "readmitted",
    "merge_due",
    "clock",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignEvent(_Record):
    """A decision of the coordinator, written to the log so that a replay takes it at the same place.

    Attributes:
        sequence: 1, 2, 3, ... per campaign; a forged or repeated event falls out of the sequence.
        body: what the decision needs, by kind; see ``coordinator/state.py``.
    """

    max_bytes: ClassVar[int] = 16 * 2**20
    max_items: ClassVar[int] = MAX_EVENT_ITEMS

    campaign: str = _checked(is_identifier)
    sequence: int = _checked(_positive)
    kind: str = _checked(_one_of(*EventKind.__args__))  # type: ignore[attr-defined]
    body: Mapping[str, Any] = _checked(_event_body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(_Record):
    """A worker's sign of life.

    Attributes:
        state: idle, loading (torch and the device's data), training, delivering (a finished update waits for the
            broker) or leaving.
        holding: ``campaign/task_id#attempt`` of the task in hand, or empty.
        trouble: what fails on this device again and again, in its own words; empty where all works.
    """

    worker: str = _checked(is_identifier)
    state: str = _checked(_one_of("idle", "loading", "training", "delivering", "leaving"))
    queues: tuple[str, ...] = _checked(_names)
    holding: str = _checked(_label)
    host: str = _checked(_label)
    pid: int = _checked(_count)
    started_ms: int = _checked(_count)
    threads: int = _checked(_count)
    device: str = _checked(_label)
    num_done: int = _checked(_count)
    num_failed: int = _checked(_count)
    bytes_up: int = _checked(_count)
    bytes_down: int = _checked(_count)
    trouble: str = _checked(_label, default="")


def holding_name(campaign: str, task_id: str, attempt: int) -> str:
    """How a beat names the task in hand.

    >>> holding_name("digits-1", "17-a3", 2)
    'digits-1/17-a3#2'
    """
    return f"{campaign}/{task_id}#{attempt}"
