"""Patience with a broker that is away: when it is tried again, when that is said, and what is done until it is back.

A broker that is *away* is waited for without end; one that *refuses* is waited for as well, because rights are edited
while programs run, and who waits says how long that may take (``refused_seconds``). Children that die are another
matter: ``fl_core/program/restarts.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog

from fl_core.backoff import Backoff
from fl_core.clock import MACHINE, Clock
from fl_core.errors import BrokerRefused, BrokerUnavailable

FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 2.0
# Devices are many, and come back all at once.
DEVICE_LAST_PAUSE_SECONDS = 5.0
DEVICE_QUIET_SECONDS = 10.0
FIRST_WORD_SECONDS = 10.0
LAST_WORD_SECONDS = 60.0
MAX_REASONS = 8
"""So many different ones of an outage are said when they are new."""

T = TypeVar("T")

log = structlog.get_logger()


class Outage:
    """One stretch of time without the broker; begins when it is made.

    Args:
        clock: what it is measured by.
        last_pause_seconds: the longest pause between two attempts.
        quiet_seconds: an outage that is shorter is not worth a word.
    """

    def __init__(
        self, clock: Clock = MACHINE, *, last_pause_seconds: float = LAST_PAUSE_SECONDS, quiet_seconds: float = 0.0
    ) -> None:
        self._clock = clock
        self._since = clock.monotonic()
        self._refused_since: float | None = None
        self._kind: type[BrokerUnavailable] | None = None
        self._pauses = Backoff(FIRST_PAUSE_SECONDS, last_pause_seconds, 1.5)
        self._words = Backoff(FIRST_WORD_SECONDS, LAST_WORD_SECONDS)
        self._loud_from = self._next_word = self._since + quiet_seconds
        self._reasons: set[str] = set()

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return self._clock.monotonic() - self._since

    @property
    def refused_seconds(self) -> float:
        """For how long the broker has answered, and refused this program; 0 while it is away."""
        return 0.0 if self._refused_since is None else self._clock.monotonic() - self._refused_since

    def note(self, error: BrokerUnavailable) -> bool:
        """An attempt has failed; whether it is the first one that failed so, away or refused."""
        kind = BrokerRefused if isinstance(error, BrokerRefused) else BrokerUnavailable
        news, self._kind = kind is not self._kind, kind
        if kind is BrokerUnavailable:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = self._clock.monotonic()
        return news

    def next_pause(self) -> float:
        """Seconds until the next attempt; they grow."""
        return self._pauses.next()

    def is_worth_a_word(self, error: Exception) -> bool:
        """True at first and then less and less often, at least once a minute: an outage is not logged each time.

        A reason that is new is said at once: a server that was away, and now refuses, is waited for in vain.
        """
        now = self._clock.monotonic()
        reason = str(error).partition(" (")[0]  # what follows are the server's own words
        news = reason not in self._reasons and len(self._reasons) < MAX_REASONS
        if now < self._loud_from or (now < self._next_word and not news):
            return False
        self._reasons.add(reason)
        if now >= self._next_word:
            self._next_word = now + self._words.next()
        return True


def device_outage() -> Outage:
    """One as devices go through it."""
    return Outage(last_pause_seconds=DEVICE_LAST_PAUSE_SECONDS, quiet_seconds=DEVICE_QUIET_SECONDS)


def patiently(
    action: Callable[[], T],
    *,
    begin: Callable[[], Outage] = Outage,
    also: tuple[type[Exception], ...] = (),
    clock: Clock = MACHINE,
) -> T:
    """Do what needs the broker, as often as it takes.

    Args:
        action: called until it does not raise ``BrokerUnavailable``.
        begin: makes the outage at the first failure.
        also: other errors that another attempt may mend.
        clock: what is waited by.
    """
    waited_for: tuple[type[Exception], ...] = (BrokerUnavailable, *also)
    outage: Outage | None = None
    while True:
        try:
            return action()
        except waited_for as error:
            outage = outage or begin()
            if outage.is_worth_a_word(error):
                log.warning("waiting for the broker", reason=str(error), seconds=round(outage.seconds))
            clock.wait(outage.next_pause())
