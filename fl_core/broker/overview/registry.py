"""Campaigns as seen from any machine that reaches the broker: which there are, how they are, what they are asked."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from fl_core.broker import keys, rows
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.overview.status import read_status
from fl_core.broker.scripts import RECENT_WAITS_CHARACTERS, WAIT_BOUNDS_MS
from fl_core.errors import BrokerUnfit, CampaignError, RejectedUpdate
from fl_core.program.plain_text import shown
from fl_core.wire.messages import TaskCall, TrainOrder
from fl_core.wire.states import ACCEPTING, Request
from fl_core.wire.status import Status

MAX_CAMPAIGNS = 1000
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


class Registry:
    """Reads campaigns and queues; the only thing that it writes is an operator's request."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def campaigns(self) -> list[tuple[str, Status]]:
        """All campaigns, the newest first, each with its status (without a state if it has none).

        Raises:
            BrokerUnavailable: unknown.
        """
        names = self.newest(MAX_CAMPAIGNS)
        return [(name, status) for name, status in self.statuses(names).items()]

    def newest(self, limit: int) -> list[str]:
        """Ids of the newest campaigns, the newest first. What is no id is left out."""
        if rows.too_large(self._client, [keys.CAMPAIGNS]):
            return []
        with broker_errors("listing campaigns"):
            found = self._client.zrevrange(keys.CAMPAIGNS, 0, limit - 1)
        return rows.good(keys.CAMPAIGNS, found, rows.name)

    def statuses(self, campaigns: list[str]) -> dict[str, Status]:
        """Some campaigns' statuses, each with its ``writer``, in one round trip."""
        if not campaigns:
            return {}
        with broker_errors("reading campaigns' statuses"), self._client.pipeline(transaction=False) as pipeline:
            for name in campaigns:
                pipeline.getrange(keys.CampaignKeys(name).status, 0, rows.MAX_STRING_BYTES)
                pipeline.getrange(keys.CampaignKeys(name).writer, 0, 400)
            answers = pipeline.execute(raise_on_error=False)
        found: dict[str, Status] = {}
        for name, packed, writer in zip(campaigns, answers[::2], answers[1::2], strict=True):
            for answer in (packed, writer):
                if isinstance(answer, Exception):
                    self._skip(name, answer)
            status = read_status(packed) if isinstance(packed, bytes) else Status()
            found[name] = replace(status, writer=_token(writer))
        return found

    @staticmethod
    def _skip(campaign: str, error: Exception) -> None:
        """A key that is no string costs its campaign, and nobody else; all else went wrong for all."""
        try:
            with broker_errors("reading campaigns' statuses"):
                raise error
        except BrokerUnfit as unfit:
            rows.tell(keys.CampaignKeys(campaign).status, str(unfit))

    def orders(self, queues: Iterable[str]) -> list[TrainOrder]:
        """How the tasks of the campaigns that run now on one of these queues are to be done, the newest first.

        An order that this program cannot read is left out; a worker would learn that with its first task.

        Raises:
            BrokerUnavailable: unknown.
        """
        wanted, found = set(queues), []
        running = [name for name, status in self.campaigns() if _runs_on(status, wanted)]
        for name in running:
            with broker_errors("reading a campaign's order"):
                packed = self._client.getrange(keys.CampaignKeys(name).order, 0, rows.MAX_STRING_BYTES)
            with contextlib.suppress(RejectedUpdate):
                found.append(TrainOrder.from_bytes(packed))
        return found

    def find(self, wanted: str) -> str:
        """The one campaign that ``wanted`` means: its id, the beginning of its id, or ``latest``.

        Where a beginning fits several, the one that is not over is meant.

        Raises:
            CampaignError: there is none, or more than one.
        """
        names = self.newest(MAX_CAMPAIGNS)
        if not names:
            raise CampaignError("the broker knows no campaign; launch one with `fedtide run SPEC.toml --broker URL`.")
        if wanted in names:
            return wanted
        if wanted == "latest":
            return names[0]
        matching = [name for name in names if name.startswith(wanted)]
        if not matching:
            raise CampaignError(
                f"there is no campaign {wanted!r}; the newest is {names[0]!r}, `fedtide campaigns` lists all."
            )
        active = [name for name in matching if not self.status(name).is_over]
        if len(matching) > 1 and len(active) == 1:
            return active[0]
        if len(matching) == 1:
            return matching[0]
        raise CampaignError(f"{wanted!r} means {len(matching)} campaigns ({', '.join(matching[:5])}); write more.")

    def status(self, campaign: str) -> Status:
        """What the campaign's coordinator last said of it, and ``writer``: who holds its lease, if anybody."""
        return self.statuses([campaign])[campaign]

    def request(self, campaign: str, request: Request, argument: str = "") -> None:
        """Ask the campaign's coordinator for something; durable, taken in order, also while no coordinator runs."""
        with broker_errors(f"asking a campaign to {request}"):
            self._client.xadd(
                keys.CampaignKeys(campaign).control, {"request": request, "argument": argument}, maxlen=1000
            )

    def queues(self, known: Iterable[str] = ()) -> list[QueueState]:
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


def _token(raw: object) -> str | None:
    """Who holds a lease, for people."""
    return shown(raw.decode(errors="replace"), 200) if isinstance(raw, bytes) and raw else None


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


def _runs_on(status: Status, queues: set[str]) -> bool:
    return status.state in ACCEPTING and not queues.isdisjoint(status.queues or ())
