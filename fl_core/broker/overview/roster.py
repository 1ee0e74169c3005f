"""The register of live workers: beats, as workers write them and as coordinators and monitors read them.

What a worker says of itself stands in a hash of its own, which no other device may read or write. Registers, which all
devices write, say only where to look: an entry in them is its worker's if the token in it stands in that hash. So what
another device puts there names nobody and takes nobody's place; where workers are only counted, it counts until it is
overdue.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
KEEP_SECONDS = 30 * 24 * 3600
MAX_SILENT_SECONDS = 1e9


# A beat that lies further ahead was stamped before the server's clock was set back: nobody has beaten since.
AHEAD_SECONDS = 5.0

_PAGE = 5_000
# So many workers' words are read in one step of the server's.
_READ_PAGE = 1_000


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
        self._devices = Script(client, scripts.DEVICES)
        self._token = secrets.token_hex(8)

    def beat(self, beat: Beat) -> None:
        """Say that a worker is alive and what it holds.

        Raises:
            BrokerUnavailable: nobody heard it.
        """
        with broker_errors("sending a beat"):
            self._beat(
                keys=[keys.device(beat.worker), keys.DEVICES, *map(keys.live, beat.queues)],
                args=[beat.worker, self._token, beat.to_bytes(), beat.holding, round(1000 * due_seconds(beat))],
            )

    def leave(self, worker: str, queues: Sequence[str]) -> None:
        """Take a worker off the register: it stops of its own will."""
        entry = f"{worker} {self._token}"
        with broker_errors("leaving the roster"), self._client.pipeline() as pipeline:
            pipeline.unlink(keys.device(worker))
            for register in (keys.DEVICES, *map(keys.live, queues)):
                pipeline.zrem(register, entry)
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
        return {name: low <= due <= high for name, due, _ in self._own(keys.live(queue), found, ())}

    def live_entries(self, queue: str, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[bytes]:
        """The entry of every live worker of a queue, page by page; the same in each of the queues that it serves.

        A worker that beats meanwhile may come twice. Whether an entry is its worker's is not looked at.

        Raises:
            BrokerUnavailable: unknown.
        """
        low, high = self._alive_between(patience_seconds)
        start = 0
        while True:
            with broker_errors("reading a queue's workers"):
                page = self._client.zrangebyscore(keys.live(queue), low, high, start, _PAGE, withscores=True)
            yield from (entry for entry, _ in page)
            if len(page) < _PAGE:
                return
            # The next page begins at the last one's score, behind those that were there: scores only rise.
            start = sum(due == page[-1][1] for _, due in page) + (start if page[-1][1] == low else 0)
            low = page[-1][1]

    def _alive_between(self, patience_seconds: float) -> tuple[float, float]:
        """Between which moments a live worker's next beat is due. One that is due much later beat by another clock."""
        now_ms = self._now_ms()
        return now_ms - 1000 * patience_seconds, now_ms + 1000 * (IDLE_BEAT_SECONDS + PATIENCE_SECONDS)

    def lookup(self, workers: Sequence[str]) -> dict[str, tuple[float, str]]:
        """For some workers: seconds since the last beat (infinite if there is none) and what it holds.

        Raises:
            BrokerUnavailable: unknown.
        """
        if not workers:
            return {}
        found = {}
        now_ms = self._now_ms()
        for worker, (raw,) in zip(workers, self._read(workers, ("row",)), strict=True):
            row = _row(raw)
            found[worker] = (float("inf"), "") if row is None else (silence(now_ms, row.at_ms), row.holding)
        return found

    def present(self, *, max_workers: int = 10_000) -> list[Presence]:
        """Registered workers, the most recently seen first, at most ``max_workers``.

        Raises:
            BrokerUnavailable: unknown.
        """
        if rows.too_large(self._client, [keys.DEVICES]):
            return []
        now_ms = self._now_ms()
        with broker_errors("reading the roster"):
            seen = self._client.zrevrange(keys.DEVICES, 0, max_workers - 1, withscores=True)
        own = self._own(keys.DEVICES, seen, ("beat",))
        return rows.good(keys.DEVICES, own, lambda row: _presence(row[0], row[1], row[2][0], now_ms))

    def forget_silent(self, queues: Iterable[str]) -> None:
        """Drop who has been silent for a day (a coordinator's chore; readers never write).

        A register that no coordinator looks after any more ends a month later, and begins anew with the next beat.

        Args:
            queues: whose registers are looked after.

        Raises:
            BrokerUnavailable: some may be left.
        """
        limit = self._now_ms() - FORGET_SECONDS * 1000
        with broker_errors("tidying the roster"), self._client.pipeline(transaction=False) as pipeline:
            for register in (keys.DEVICES, *map(keys.live, queues)):
                pipeline.zremrangebyscore(register, "-inf", limit)
                pipeline.expire(register, KEEP_SECONDS)
            pipeline.execute()

    def _own(
        self, register: str, found: Sequence[tuple[bytes, float]], fields: Sequence[str]
    ) -> list[tuple[str, float, Sequence[bytes | None]]]:
        """The entries that are their workers' own: name, score, and these fields of what the worker says."""
        entries = rows.good(register, found, lambda row: (*_entry(row[0]), row[1]))
        said = self._read([name for name, _, _ in entries], ("row", *fields))
        own: list[tuple[str, float, Sequence[bytes | None]]] = []
        for (name, token, score), (raw, *values) in zip(entries, said, strict=True):
            row = _row(raw)
            if row is not None and row.token == token:
                own.append((name, score, values))
        return own

    def _read(self, workers: Sequence[str], fields: Sequence[str]) -> Iterator[Sequence[bytes | None]]:
        """What some workers say of themselves; None where one says nothing, or more than any of ours does."""
        for start in range(0, len(workers), _READ_PAGE):
            page = [keys.device(worker) for worker in workers[start : start + _READ_PAGE]]
            with broker_errors("reading the roster"):
                found: list[bytes | None] = self._devices(keys=page, args=fields)
            yield from zip(*(found[at :: len(fields)] for at in range(len(fields))), strict=True)

    def _now_ms(self) -> float:
        with broker_errors("reading the server's clock"):
            seconds, micros = self._client.time()
        return float(seconds * 1000 + micros / 1000)


def _entry(raw: bytes) -> tuple[str, bytes]:
    """A register's entry: whose it says that it is, and the token that proves it.

    Raises:
        BadRow: no worker of this release has written it.
    """
    name, space, token = raw.partition(b" ")
    if not space:
        raise rows.BadRow("no entry of a register")
    return rows.name(name), token


def _presence(worker: str, last: float, packed: bytes | None, now_ms: float) -> Presence:
    """One worker's row.

    Raises:
        BadRow: it is no beat, or another worker's.
    """
    if packed is None:
        raise rows.BadRow("no beat")
    try:
        beat = Beat.from_bytes(packed)
    except RejectedUpdate as error:
        raise rows.BadRow(error.detail) from None
    if beat.worker != worker:
        raise rows.BadRow(f"the beat is {beat.worker}'s")
    return Presence(beat, min(silence(now_ms, last), MAX_SILENT_SECONDS))


class _Row(NamedTuple):
    at_ms: int
    token: bytes
    holding: str


def _row(raw: bytes | None) -> _Row | None:
    """When a worker beat last, what it has drawn, and what it says that it holds; None where that is no row."""
    try:
        at, token, held = rows.parts(raw, 3)
        return _Row(rows.number(at), token, rows.text(held))
    except rows.BadRow:
        return None
