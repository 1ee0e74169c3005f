"""One pair of eyes for all who watch: it reads the broker about once a second, however many pages are open.

Every read is bounded: the newest hundred campaigns, at most ten thousand workers, the feed page by page. What is dear
to read (a big fleet) is read less often, so that watching costs the broker and this process the same small share.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import structlog

from coordinator.monitor.members import Members, MemberWatch
from coordinator.monitor.track import Track
from fl_core.broker.connection import Client
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.overview import feed
from fl_core.broker.overview.queues import Queues, QueueState
from fl_core.broker.overview.registry import Registry
from fl_core.broker.overview.roster import Presence, Roster
from fl_core.broker.server.health import Health, Lengths, read_health, read_lengths
from fl_core.errors import BrokerError
from fl_core.program.plain_text import shown
from fl_core.wire.status import Status

log = structlog.get_logger()

POLL_SECONDS = 1.0
MAX_CAMPAIGNS = 100
MAX_WORKERS = 10_000
# Reading may take at most this share of the time; but a broker that was slow once is asked again soon.
MAX_SHARE = 0.05
MAX_PAUSE_SECONDS = 5.0
FEED_PAGE = 500
FEED_PAGES_PER_POLL = 40
FORGET_TRACK_SECONDS = 600.0
QUEUE_POINTS = 300
# A look takes as long as the broker lets it, some reads of some seconds each. After this, nobody looks any more.
STALE_SECONDS = 45.0


@dataclass(slots=True)
class QueuePast:
    """A queue over the last minutes: (clock seconds, depth, oldest seconds, published, claimed) per poll."""

    points: deque[tuple[float, int, float, int, int]] = field(default_factory=lambda: deque(maxlen=QUEUE_POINTS))

    def rates(self, window_seconds: float = 10.0) -> tuple[float, float]:
        """Arrivals and departures per second over the last moments."""
        if len(self.points) < 2:
            return 0.0, 0.0
        last = self.points[-1]
        first = next(point for point in self.points if point[0] >= last[0] - window_seconds)
        seconds = last[0] - first[0]
        if seconds <= 0:
            return 0.0, 0.0
        return max(0.0, (last[3] - first[3]) / seconds), max(0.0, (last[4] - first[4]) / seconds)


@dataclass(slots=True)
class _Followed:
    """A campaign whose past is kept."""

    track: Track = field(default_factory=Track)
    position: str = "0-0"
    numbers: set[tuple[int, int]] = field(default_factory=set)
    wanted_at: float = 0.0


@dataclass(slots=True)
class Snapshot:
    """What was seen at one moment; replaced as a whole, never changed.

    Attributes:
        sequence: rises with every poll.
        error: why the broker could not be read, or empty; the rest is then what was last seen.
        campaigns: id -> status, the newest first.
        live: queue -> live workers, counted by the server.
        workers: those that were seen last, at most ``MAX_WORKERS``; the busy ones beat most often.
        members: who belongs to the federation; of no authority nobody.
    """

    sequence: int = 0
    seen_at: float = 0.0
    error: str = ""
    health: Health | None = None
    campaigns: dict[str, Status] = field(default_factory=dict)
    lengths: dict[str, Lengths] = field(default_factory=dict)
    queues: list[QueueState] = field(default_factory=list)
    live: dict[str, int] = field(default_factory=dict)
    workers: list[Presence] = field(default_factory=list)
    workers_seen_at: float = 0.0
    members: Members = field(default_factory=Members)


class Observer:
    """Polls from a thread of its own; readers take ``snapshot`` and never wait for the broker.

    Args:
        client: for this observer alone.
        authority: the certificate of the authority that this program belongs to, DER; empty for none.
    """

    def __init__(self, client: Client, authority: bytes = b"") -> None:
        self._client = client
        self._members = MemberWatch(client, authority)
        self._registry, self._waiting = Registry(client), Queues(client)
        self._roster = Roster(client)
        self._lock = threading.RLock()
        self._followed: dict[str, _Followed] = {}
        self._queues: dict[str, QueuePast] = {}
        self._next_workers = self._next_all_campaigns = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked_at = time.monotonic()
        self.snapshot = Snapshot()

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to poll."""
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End polling."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5)

    def trouble(self) -> str:
        """Why what is shown is not what is there: the broker is away, or this observer does not look. Empty if it is.

        A thread that has died is started again.
        """
        if self._thread is not None and not self._thread.is_alive() and not self._stopping.is_set():
            log.error("the monitor's observer has ended; starting it again")
            self.start()
        seen = self.snapshot
        silent = time.monotonic() - self._looked_at
        if self._thread is not None and silent > STALE_SECONDS:
            return f"the monitor has not looked at the broker for {silent:.0f} s; what is shown is of {_clock(seen)}"
        return seen.error

    def _run(self) -> None:
        told = ""
        while not self._stopping.is_set():
            started = time.monotonic()
            reason = ""
            try:
                self.poll()
            except BrokerError as error:
                reason = str(error)
                if not told:
                    log.warning("the monitor waits for the broker", reason=reason)
            except Exception as error:  # a mistake of ours must not leave a page that looks alive
                reason = f"the monitor cannot read what the broker holds ({type(error).__name__}: {shown(error, 200)})"
                if not told:
                    log.exception("the monitor cannot read what the broker holds")
            if reason:
                self._note(reason)
            told = reason
            self._looked_at = time.monotonic()
            took = self._looked_at - started
            pause = max(POLL_SECONDS - took, took / MAX_SHARE - took if took > POLL_SECONDS / 2 else 0.1)
            self._stopping.wait(min(pause, MAX_PAUSE_SECONDS))

    def _note(self, reason: str) -> None:
        """Nothing new was seen, for this reason; the rest is what was last seen."""
        last = self.snapshot
        self.snapshot = replace(
            last, sequence=last.sequence + 1, error=f"{reason.rstrip('.')}; what is shown is of {_clock(last)}."
        )

    # -- polling ---------------------------------------------------------------------------------------------------

    def poll(self) -> Snapshot:
        """Look once.

        Raises:
            BrokerUnavailable: nothing was seen; the last snapshot stays.
        """
        now = time.time()
        campaigns = self._look_at_campaigns()
        active = [name for name, status in campaigns.items() if not status.is_over]
        workers, seen_at = self._look_at_workers(now)
        known = {queue for status in campaigns.values() for queue in status.queues or ()}
        queues = self._waiting.read(known | {queue for worker in workers for queue in worker.beat.queues})
        with self._lock:
            names = {queue.name for queue in queues}
            for gone in self._queues.keys() - names:
                del self._queues[gone]
            for queue in queues:
                past = self._queues.setdefault(queue.name, QueuePast())
                past.points.append((now, queue.depth, queue.oldest_seconds, queue.published, queue.claimed))
            self._follow(time.monotonic())
            wanted = list({*active[:20], *self._followed} & set(campaigns))
        lengths = read_lengths(self._client, wanted)
        self.snapshot = Snapshot(
            sequence=self.snapshot.sequence + 1,
            seen_at=now,
            health=read_health(self._client),
            campaigns=campaigns,
            lengths=lengths,
            queues=queues,
            live=self._roster.count_live([queue.name for queue in queues]),
            workers=workers,
            workers_seen_at=seen_at,
            members=self._members.look(),
        )
        return self.snapshot

    def _look_at_campaigns(self) -> dict[str, Status]:
        """Statuses: those of campaigns that are over are read again only now and then."""
        now, known = time.monotonic(), self.snapshot.campaigns
        everything = now >= self._next_all_campaigns
        if everything:
            self._next_all_campaigns = now + 30
        names = self._registry.newest(MAX_CAMPAIGNS)
        ask = [name for name in names if everything or name not in known or not known[name].is_over]
        fresh = self._registry.statuses(ask)
        return {name: fresh[name] if name in fresh else known[name] for name in names}

    def _look_at_workers(self, now: float) -> tuple[list[Presence], float]:
        started = time.monotonic()
        if started < self._next_workers:
            return self.snapshot.workers, self.snapshot.workers_seen_at
        workers = self._roster.present(max_workers=MAX_WORKERS)
        took = time.monotonic() - started
        self._next_workers = started + took + min(took / MAX_SHARE, MAX_PAUSE_SECONDS)
        return workers, now

    # -- following a campaign --------------------------------------------------------------------------------------

    def follow(self, campaign: str) -> None:
        """Keep this campaign's past from now on, for some minutes; the first call reads all that the feed has.

        Raises:
            BrokerUnavailable: its past could not be read.
        """
        with self._lock:
            known = campaign in self._followed
            followed = self._followed.setdefault(campaign, _Followed())
            followed.wanted_at = time.monotonic()
            if not known:
                self._read_on(campaign, followed)

    def track(self, campaign: str) -> Track | None:
        """The past of a campaign that is followed. Hold ``lock`` while reading it."""
        followed = self._followed.get(campaign)
        return None if followed is None else followed.track

    @property
    def lock(self) -> threading.RLock:
        """Guards the tracks and the queues' past."""
        return self._lock

    @property
    def queue_past(self) -> Mapping[str, QueuePast]:
        """The queues over the last minutes. Hold ``lock`` while reading it."""
        return self._queues

    def _follow(self, now: float) -> None:
        for campaign, followed in list(self._followed.items()):
            if now - followed.wanted_at > FORGET_TRACK_SECONDS:
                del self._followed[campaign]
            else:
                self._read_on(campaign, followed)

    def _read_on(self, campaign: str, followed: _Followed) -> None:
        keys = CampaignKeys(campaign)
        for _ in range(FEED_PAGES_PER_POLL):
            entries, position = feed.read_feed(self._client, keys, followed.position, FEED_PAGE)
            for entry in entries:
                if entry.number not in followed.numbers:  # else a commit that was repeated
                    followed.track.add(entry.lines)
                    followed.numbers.add(entry.number)
            if len(followed.numbers) > 2 * feed.MAX_ENTRIES:
                followed.numbers = {entry.number for entry in entries}
            if position == followed.position:
                return
            followed.position = position


def _clock(seen: Snapshot) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seen.seen_at)) if seen.seen_at else "nothing"
