"""Who is alive: workers' beats, as workers write them and as coordinators and monitors read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fl_core.broker import keys, scripts
from fl_core.broker.connection import Client, Script, broker_errors
from fl_core.errors import RejectedUpdate
from fl_core.messages import Beat

BEAT_SECONDS = 2.0
# A worker that has been silent for a day is forgotten.
FORGET_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Presence:
    """One worker as the broker sees it; ``silent_seconds`` is the time since its last beat, by the server's clock."""

    beat: Beat
    silent_seconds: float


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
            self._beat(keys=[keys.BEATS, keys.SEEN, keys.HOLDING], args=[beat.worker, beat.to_bytes(), beat.holding])

    def leave(self, worker: str) -> None:
        """Take a worker off the register: it stops of its own will."""
        with broker_errors("leaving the roster"), self._client.pipeline() as pipeline:
            pipeline.hdel(keys.BEATS, worker).zrem(keys.SEEN, worker).hdel(keys.HOLDING, worker).execute()

    def lookup(self, workers: Sequence[str]) -> dict[str, tuple[float, str]]:
        """For some workers: seconds since the last beat (infinite if there is none) and what it holds.

        Raises:
            BrokerUnavailable: unknown.
        """
        if not workers:
            return {}
        with broker_errors("reading the roster"), self._client.pipeline(transaction=True) as pipeline:
            pipeline.time()
            pipeline.zmscore(keys.SEEN, list(workers))
            pipeline.hmget(keys.HOLDING, list(workers))
            now, seen, holding = pipeline.execute()
        now_ms = now[0] * 1000 + now[1] / 1000
        return {
            worker: (float("inf") if last is None else max(0.0, now_ms - last) / 1000, (held or b"").decode())
            for worker, last, held in zip(workers, seen, holding, strict=True)
        }

    def present(self, *, max_workers: int = 10_000) -> list[Presence]:
        """Registered workers, the most recently seen first, at most ``max_workers``.

        Raises:
            BrokerUnavailable: unknown.
        """
        with broker_errors("reading the roster"):
            seconds, micros = self._client.time()
            now_ms = seconds * 1000 + micros / 1000
            seen = self._client.zrevrange(keys.SEEN, 0, max_workers - 1, withscores=True)
            names = [name for name, _ in seen]
            packed = self._client.hmget(keys.BEATS, names) if names else []
        present = []
        for (_, last), record in zip(seen, packed, strict=True):
            if record is None:
                continue
            try:
                present.append(Presence(Beat.from_bytes(record), max(0.0, now_ms - last) / 1000))
            except RejectedUpdate:
                continue  # one worker's bad bytes do not hide the others
        return present

    def forget_silent(self) -> None:
        """Drop workers that have been silent for a day (a coordinator's chore; readers never write)."""
        with broker_errors("tidying the roster"):
            seconds, _ = self._client.time()
            limit = (seconds - FORGET_SECONDS) * 1000
            names = self._client.zrangebyscore(keys.SEEN, 0, limit, start=0, num=1000)
            if names:
                with self._client.pipeline() as pipeline:
                    pipeline.hdel(keys.BEATS, *names).zrem(keys.SEEN, *names).hdel(keys.HOLDING, *names).execute()
