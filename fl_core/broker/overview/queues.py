"""The queues as seen from any machine that reaches the broker: what waits there, and how long claimed tasks waited."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

from fl_core.broker import keys, rows
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.scripts import RECENT_WAITS_CHARACTERS, WAIT_BOUNDS_MS
from fl_core.wire.messages import TaskCall

# Any other queue is invented, and reporting on it costs every watcher.
MAX_QUEUES = 200
_BUCKETS = range(len(WAIT_BOUNDS_MS) + 1)
_FIELDS = ("published", "claimed", "waited_ms", "recent", *(f"wait{bucket}" for bucket in _BUCKETS))
_MAX_COUNTS = 20_000
# A doorbell with Celery's words around it is shorter, and what a list takes beside its items is less.
MAX_DOORBELL_BYTES = 4 * TaskCall.max_bytes
_SPARE_BYTES = 2**18
WAIT_BOUNDS_SECONDS = tuple(bound / 1000 for bound in WAIT_BOUNDS_MS)


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue: messages that wait, the age of the oldest, and the counts of tasks published and claimed so far.

    Attributes:
        recent_waits: how long each of the last claimed tasks waited, in seconds, the newest first; at most some 100.
        wait_counts: all waits so far as a histogram over ``WAIT_BOUNDS_SECONDS``, one bucket more for the rest.
        wait_seconds: their sum.
    """

    name: str
    depth: int
    oldest_seconds: float
    published: int
    claimed: int
    recent_waits: tuple[float, ...] = ()
    wait_counts: tuple[int, ...] = (0,) * (len(WAIT_BOUNDS_SECONDS) + 1)
    wait_seconds: float = 0.0

    def wait_quantile(self, share: float) -> float | None:
        """Nearest-rank quantile of the recent waits in seconds; None before the first.

        >>> QueueState("gpu", 0, 0.0, 4, 4, recent_waits=(4.0, 1.0, 3.0, 2.0)).wait_quantile(0.5)
        2.0
        """
        ranked = sorted(self.recent_waits)
        return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else None


class Queues:
    """Reads them; nothing is written."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self, known: Iterable[str] = ()) -> list[QueueState]:
        """The queues that tasks were published on, at most ``MAX_QUEUES``. Cost: three reads per queue.

        Args:
            known: names that are shown before others, where there are more.

        Raises:
            BrokerUnavailable: unknown.
        """
        counts = self._counts(list(known))
        found = rows.good(keys.QUEUE_COUNTS, counts, lambda field: rows.name(field.rpartition(b":")[0]))
        first = set(known)
        # Invented queues push out no real one: those that somebody serves come first, then the busiest.
        ranked = sorted(set(found), key=lambda name: (name not in first, -_number(counts.get(_field(name)))))
        names = sorted(ranked[:MAX_QUEUES])
        depths, ages = self._look_into([keys.train_queue(name) for name in names])

        def count(name: str, what: str) -> int:
            return _number(counts.get(_field(name, what)))

        return [
            QueueState(
                name,
                depth,
                age,
                count(name, "published"),
                count(name, "claimed"),
                tuple(_number(wait) / 1000 for wait in _recent(counts.get(_field(name, "recent"))) if wait),
                tuple(count(name, f"wait{bucket}") for bucket in _BUCKETS),
                count(name, "waited_ms") / 1000,
            )
            for name, depth, age in zip(names, depths, ages, strict=True)
        ]

    def _look_into(self, queues: list[str]) -> tuple[list[int], list[float]]:
        """Depth of some queues, and the age of the oldest message in seconds.

        A queue that takes more memory than its doorbells can holds something else, and that is not fetched.
        """
        with broker_errors("reading the queues"), self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for queue in queues:
                pipeline.llen(queue)
                pipeline.memory_usage(queue, samples=0)
            now, *answers = pipeline.execute(raise_on_error=False)
            if isinstance(now, Exception):
                raise now
            depths = [depth if isinstance(depth, int) else 0 for depth in answers[::2]]
            for queue, depth, weight in zip(queues, depths, answers[1::2], strict=True):
                if isinstance(weight, int) and weight > _SPARE_BYTES + depth * MAX_DOORBELL_BYTES:
                    rows.tell(queue, "it holds a message that is no doorbell")
                    pipeline.echo("")
                else:
                    # kombu pushes on the left and workers pop on the right: the oldest is last.
                    pipeline.lindex(queue, -1)
            oldest = pipeline.execute(raise_on_error=False) if queues else []
        now_ms = now[0] * 1000 + now[1] / 1000
        return depths, [_age_seconds(message, now_ms) for message in oldest]

    def _counts(self, known: list[str]) -> dict[bytes, bytes]:
        """The fields of the queues' counts; those of known queues alone where somebody has invented very many."""
        with broker_errors("reading the queues"):
            if self._client.hlen(keys.QUEUE_COUNTS) <= _MAX_COUNTS and not rows.too_large(
                self._client, [keys.QUEUE_COUNTS]
            ):
                return dict(self._client.hgetall(keys.QUEUE_COUNTS))
            rows.tell(keys.QUEUE_COUNTS, "it names more queues than there can be; only those that are served are shown")
            fields = [_field(name, what) for name in known[:MAX_QUEUES] for what in _FIELDS]
            values = self._client.hmget(keys.QUEUE_COUNTS, fields) if fields else []
        return {field: value for field, value in zip(fields, values, strict=True) if value is not None}


def _field(name: str, what: str = "published") -> bytes:
    return f"{name}:{what}".encode()


def _recent(raw: bytes | None) -> list[bytes]:
    return (raw or b"")[:RECENT_WAITS_CHARACTERS].split(b",")


def _number(value: bytes | None) -> int:
    """A count; 0 for what is none: workers write there too."""
    return rows.number_or_zero(value)


def _age_seconds(message: object, now_ms: float) -> float:
    """How long ago a doorbell was rung, from the header that the dispatcher put on it; 0 for what is no doorbell."""
    if not isinstance(message, bytes) or len(message) > MAX_DOORBELL_BYTES:
        return 0.0
    try:
        published_ms = float(json.loads(message)["headers"]["published_ms"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0.0
    return max(0.0, now_ms - published_ms) / 1000 if published_ms > 0 else 0.0
