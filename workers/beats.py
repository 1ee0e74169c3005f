"""A worker's signs of life, and what it learns by them: whether the broker is there."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import structlog

from fl_core.broker.overview.roster import BEAT_SECONDS, Roster, due_seconds
from fl_core.broker.patience import Outage
from fl_core.errors import BrokerRefused, BrokerUnavailable
from fl_core.program.host import host_name
from fl_core.program.plain_text import shown
from fl_core.wire.messages import Beat
from workers.identity.standing import Standing
from workers.kept import Kept
from workers.pulse import Pulse, Vitals
from workers.settings import WorkerSettings

log = structlog.get_logger()

NEWS_SECONDS = 1.0
# A worker that is refused asks at once whether it was sent away, and so often again, less and less.
ASK_SECONDS = 1.0
MOST_SECONDS = 60.0
PATIENCE = 60


class Beats:
    """Says how a worker is, when that is due.

    Args:
        settings: the worker's.
        roster: where it is said.
        pulse: what the child does.
        kept: what is delivered beside it.
        leaving: set when the worker stops.
        standing: whether this device still belongs to its federation.
        end: ends the worker, with the reason in one sentence; at once where what it does is wanted no more.
        refused_seconds: so long may the broker refuse a worker without an identity. One that has an identity learns
            whether it was sent away, and otherwise waits ``PATIENCE`` times as long for a broker that lost its users.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        roster: Roster,
        pulse: Pulse,
        kept: Kept,
        leaving: threading.Event,
        standing: Standing,
        *,
        end: Callable[[str, bool], None],
        refused_seconds: float,
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._pulse = pulse
        self._kept = kept
        self._leaving = leaving
        self._standing = standing
        self._end = end
        self._refused_seconds = refused_seconds
        self._started_ms = time.time_ns() // 10**6
        self._listens = threading.Event()
        self._last, self._next, self._told = 0.0, 0.0, ("", False, False)
        self._outage: Outage | None = None
        self._ask_again = 0.0

    @property
    def broker_is_away(self) -> bool:
        """The last beat was not heard."""
        return self._outage is not None

    def note_listening(self) -> None:
        """The worker takes tasks, from now on or again; those who count workers may have forgotten it."""
        self._next = 0.0
        self._listens.set()

    def note_cut(self) -> None:
        """A connection was closed: see now what that means, and not when a beat is due."""
        if self._outage is None:
            self._next = 0.0
            self._listens.set()

    def wanted_in(self) -> float:
        """Seconds until ``look`` has something to do."""
        now = time.monotonic()
        wanted = self._next - now
        if self._news(self._pulse.read()) != self._told:
            wanted = min(wanted, self._last + NEWS_SECONDS - now)
        return wanted

    def look(self) -> None:
        """Beat if that is due. A broker that is away is logged once and waited for; one that refuses, not for long."""
        vitals, now = self._pulse.read(), time.monotonic()
        # A new task, or none, is reported before the next beat: people watch, and lost work is found by it.
        news = self._news(vitals)
        if self._listens.is_set():
            self._listens.clear()
        elif now < self._next and not (news != self._told and now >= self._last + NEWS_SECONDS):
            return
        self._last, self._next, self._told = now, now + BEAT_SECONDS, news
        try:
            self._next = now + self._beat(vitals)
        except BrokerUnavailable as error:
            self._note_outage(error)
            return
        if self._outage is not None:
            log.info("the broker is back", away_seconds=round(self._outage.seconds))
        self._outage = None

    def _news(self, vitals: Vitals) -> tuple[str, bool, bool]:
        return vitals.holding or self._kept.holding, self._leaving.is_set(), bool(vitals.trouble)

    def _note_outage(self, error: BrokerUnavailable) -> None:
        outage = self._outage = self._outage or Outage()
        news = outage.note(error)
        if isinstance(error, BrokerRefused):
            self._note_refusal(error, outage, news)
        elif news:
            log.warning("the broker is away; training goes on", reason=str(error))

    def _note_refusal(self, error: BrokerRefused, outage: Outage, news: bool) -> None:
        seconds, wait = outage.refused_seconds, self._refused_seconds
        if not self._standing.is_known:
            if news:
                log.error("the broker refuses this worker; waiting a while", reason=str(error), seconds=wait)
            if seconds >= wait:
                self._end(f"the broker has refused this worker for {wait:g} s: {error}", False)
            return
        if seconds >= PATIENCE * wait:
            # Started again it reads its identity anew, which may be another one by now.
            self._end(f"the broker has refused this worker for {PATIENCE * wait:g} s: {error}", False)
            return
        if not news and seconds < self._ask_again:
            return
        self._ask_again = min(2 * seconds + ASK_SECONDS, seconds + MOST_SECONDS)
        if excluded := self._standing.exclusion():
            self._end(excluded, True)
        else:
            log.error(
                "the broker refuses this worker, which nobody has sent away; waiting", reason=str(error),
                seconds=round(seconds), remedy="if the server has lost its users, `fedtide authority users` sets them",
            )  # fmt: skip

    def _beat(self, vitals: Vitals) -> float:
        """Say how this worker is; returns the seconds until it has to say it again."""
        kept = "" if vitals.holding else self._kept.holding
        beat = Beat(
            worker=self._settings.name,
            state="leaving" if self._leaving.is_set() else "delivering" if kept else vitals.state,
            queues=self._settings.queues,
            holding=kept or vitals.holding,
            host=host_name(),
            pid=os.getpid(),
            started_ms=self._started_ms,
            threads=self._settings.threads,
            device=vitals.device,
            num_done=vitals.num_done,
            num_failed=vitals.num_failed,
            bytes_up=vitals.bytes_up,
            bytes_down=vitals.bytes_down,
            trouble=shown(vitals.trouble, 255),
        )
        self._roster.beat(beat)
        return due_seconds(beat)
