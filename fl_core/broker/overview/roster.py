"""The register of live workers: beats, as workers write them and as coordinators and monitors read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fl_core.broker import keys, rows, scripts
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.scripts import Script
from fl_core.errors import RejectedUpdate
from fl_core.wire.messages import Beat
from fl_core.wire.states import SILENT

# A worker that has a task beats every two seconds, because its task is missed when it falls silent. One that waits has
# nothing to lose.
BEAT_SECONDS = 2.0
IDLE_BEAT_SECONDS = 20.0
# So long after a beat was due does its worker count as alive; a campaign's lease says it for itself.
PATIENCE_SECONDS = 4.0
FORGET_SECONDS = scripts.FORGET_MS // 1000
MAX_SILENT_SECONDS = 1e9


# A beat that lies further ahead was stamped before the server's clock was set back: nobody has beaten since.
AHEAD_SECONDS = 5.0

_PAGE = 5_000


def silence(now_ms: float, last_ms: float) -> float:
    """Seconds since a beat, by the server's clock; as long as the roster remembers where that clock was set back since.

    >>> silence(10_000, 8_000), silence(10_000, 10_500), silence(10_000, 3_600_000)
    (2.0, 0.0, 86400.0)
    """
    if last_ms > now_ms + AHEAD_SECONDS * 1000:
        return float(FORGET_SECONDS)
    return max(0.0, now_ms - last_ms) / 1000


def due_seconds(beat: Beat) -> float:
    """How long after this beat the next one comes at the latest."""
    return IDLE_BEAT_SECONDS if beat.state == "idle" and not beat.holding else BEAT_SECONDS


@dataclass(frozen=True, slots=True)
class Presence:
    """One worker as the broker sees it; ``silent_seconds`` is the time since its last beat, by the server's clock."""

    beat: Beat
    silent_seconds: float

    @property
    def is_alive(self) -> bool:
        """Its next beat is not overdue."""
        return self.silent_seconds < due_seconds(self.beat) + PATIENCE_SECONDS

    @property
    def state(self) -> str:
        """What it says of itself; silent when it has not said anything for long."""
        return self.beat.state if self.is_alive else SILENT


class Roster:
    """The workers' register."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._beat = Script(client, scripts.BEAT)

    def beat(self, beat: Beat) -> None:
        """Say that a worker is alive and what it holds.

        Raises:
            BrokerUnavailable: nobody heard it.
        """
        with broker_errors("sending a beat"):
            self._beat(
                keys=[keys.BEATS, keys.SEEN, keys.HOLDING, *map(keys.live, beat.queues)],
                args=[beat.worker, beat.to_bytes(), beat.holding, round(1000 * due_seconds(beat))],
            )

    def leave(self, worker: str, queues: Sequence[str]) -> None:
        """Take a worker off the register: it stops of its own will."""
        with broker_errors("leaving the roster"), self._client.pipeline() as pipeline:
            pipeline.hdel(keys.BEATS, worker).zrem(keys.SEEN, worker).hdel(keys.HOLDING, worker)
            for queue in queues:
                pipeline.zrem(keys.live(queue), worker)
            pipeline.execute()

    def count_live(self, queues: Sequence[str], patience_seconds: float = PATIENCE_SECONDS) -> dict[str, int]:
        """How many live workers serve each queue: counted by the server, at a cost that no fleet's size changes.

        Args:
            queues: their names.
            patience_seconds: how long a beat may be overdue.

        Raises:
            BrokerUnavailable: unknown.
        """
        low, high = self._alive_between(patience_seconds)
        with broker_errors("counting the workers"), self._client.pipeline(transaction=False) as pipeline:
            for queue in queues:
                pipeline.zcount(keys.live(queue), low, high)
            return dict(zip(queues, map(int, pipeline.execute()), strict=True))

    def serving(self, queue: str, *, max_workers: int, patience_seconds: float = PATIENCE_SECONDS) -> dict[str, bool]:
        """The workers of a queue by name, silent ones too, and whether each is alive; at most ``max_workers``.

        Raises:
            BrokerUnavailable: unknown.
        """
        low, high = self._alive_between(patience_seconds)
        with broker_errors("reading a queue's workers"):
            found = self._client.zrevrange(keys.live(queue), 0, max_workers - 1, withscores=True)
        return dict(rows.good(keys.live(queue), found, lambda row: (rows.name(row[0]), low <= row[1] <= high)))

    def live_names(self, queue: str, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[bytes]:
        """Every live worker of a queue, page by page. A worker that beats meanwhile may come twice.

        Raises:
            BrokerUnavailable: unknown.
        """
        low, high = self._alive_between(patience_seconds)
        start = 0
        while True:
            with broker_errors("reading a queue's workers"):
                page = self._client.zrangebyscore(keys.live(queue), low, high, start, _PAGE, withscores=True)
            yield from (name for name, _ in page)
            if len(page) < _PAGE:
                return
            # The next page begins at the last one's score, behind those that were there: scores only rise.
            start = sum(due == page[-1][1] for _, due in page) + (start if page[-1][1] == low else 0)
            low = page[-1][1]

    def _alive_between(self, patience_seconds: float) -> tuple[float, float]:
        """Between which moments a live worker's next beat is due. One that is due much later beat by another clock."""
        with broker_errors("reading the server's clock"):
            seconds, micros = self._client.time()
        now_ms = seconds * 1000 + micros / 1000
        return now_ms - 1000 * patience_seconds, now_ms + 1000 * (IDLE_BEAT_SECONDS + PATIENCE_SECONDS)

    def lookup(self, workers: Sequence[str]) -> dict[str, tuple[float, str]]:
        """For some workers: seconds since the last beat (infinite if there is none) and what it holds.

        Raises:
            BrokerUnavailable: unknown.
        """
        if not workers:
            return {}
        found = {}
        for start in range(0, len(workers), _PAGE):
            page = list(workers[start : start + _PAGE])
            with broker_errors("reading the roster"), self._client.pipeline(transaction=True) as pipeline:
                pipeline.time()
                pipeline.zmscore(keys.SEEN, page)
                pipeline.hmget(keys.HOLDING, page)
                now, seen, holding = pipeline.execute()
            now_ms = now[0] * 1000 + now[1] / 1000
            for worker, last, held in zip(page, seen, holding, strict=True):
                silent = float("inf") if last is None else silence(now_ms, last)
                found[worker] = (silent, _held(held))
        return found

    def present(self, *, max_workers: int = 10_000) -> list[Presence]:
        """Registered workers, the most recently seen first, at most ``max_workers``.

        Raises:
            BrokerUnavailable: unknown.
        """
        if rows.too_large(self._client, [keys.SEEN, keys.BEATS]):
            return []
        with broker_errors("reading the roster"):
            seconds, micros = self._client.time()
            now_ms = seconds * 1000 + micros / 1000
            seen = self._client.zrevrange(keys.SEEN, 0, max_workers - 1, withscores=True)
            names = [name for name, _ in seen]
            packed = self._client.hmget(keys.BEATS, names) if names else []
        found = [row for row in zip(seen, packed, strict=True) if row[1] is not None]
        return rows.good(keys.BEATS, found, lambda row: _presence(row[0][0], row[0][1], row[1], now_ms))

    def forget_silent(self) -> None:
        """Drop workers that have been silent for a day (a coordinator's chore; readers never write)."""
        with broker_errors("tidying the roster"):
            seconds, _ = self._client.time()
            limit = (seconds - FORGET_SECONDS) * 1000
            names = self._client.zrangebyscore(keys.SEEN, 0, limit, start=0, num=1000)
            if names:
                with self._client.pipeline() as pipeline:
                    pipeline.hdel(keys.BEATS, *names).zrem(keys.SEEN, *names).hdel(keys.HOLDING, *names).execute()


def _presence(worker: bytes, last: float, packed: bytes, now_ms: float) -> Presence:
    """One worker's row.

    Raises:
        BadRow: it is no beat, or another worker's.
    """
    try:
        beat = Beat.from_bytes(packed)
    except RejectedUpdate as error:
        raise rows.BadRow(error.detail) from None
    if beat.worker.encode() != worker:
        raise rows.BadRow(f"the beat is {beat.worker}'s")
    return Presence(beat, min(silence(now_ms, last), MAX_SILENT_SECONDS))


def _held(raw: bytes | None) -> str:
    """What a worker says that it holds; nothing that is no task is held."""
    try:
        return "" if raw is None else rows.text(raw)
    except rows.BadRow:
        return ""
