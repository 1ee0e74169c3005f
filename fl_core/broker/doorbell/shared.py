"""One connection for all threads of a worker's parent: it waits for doorbells, and between two waits it beats.

The consumer waits with it for some seconds at a time (``intake.py``). Others who want it take the next
turn, before the consumer waits again; and the consumer waits no longer than until the next beat is due. While a task is
in hand it does not wait at all.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import redis

from fl_core.broker.line.short_way import PROBE_SECONDS, BrokerClient

# A consumer waits for 20 s at most, and notices a dead line some seconds later.
TURN_SECONDS = 30.0
# How long the consumer leaves the connection to others before it looks after its other work.
YIELD_SECONDS = 0.5
SHORTEST_WAIT_SECONDS = 0.2


class SharedClient(BrokerClient):
    """A client whose connection is its process's, and not each thread's.

    Attributes:
        num_cuts: how often a connection of its own was closed, from whichever side.
        wanted_in: seconds until somebody wants the connection; asked whenever the consumer is about to wait.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        pool: Any = self.connection_pool
        pool.connection_class = _that_tells(pool.connection_class, self._count_cut)
        self._hand: Any = SimpleNamespace()
        self._free = threading.Condition()
        self._owner: int | None = None
        self._depth = 0
        self._num_waiting = 0
        self._waits = False
        self.num_cuts = 0
        self.wanted_in: Callable[[], float] = lambda: float("inf")

    def _count_cut(self) -> None:
        self.num_cuts += 1

    # -- turns -----------------------------------------------------------------------------------------------------

    def take(self, seconds: float = TURN_SECONDS, *, after_others: bool = False) -> bool:
        """Wait for the connection; a thread that has it has it once more.

        Args:
            seconds: the longest wait.
            after_others: others who wait for it come first.
        """
        me = threading.get_ident()
        if self._waits and self._owner == me:  # the consumer has ended with an error, and its wait is of no use
            self._hand.connection.disconnect()
        with self._free:
            if self._owner == me:
                self._depth += 1
                return True
            self._num_waiting += not after_others
            try:
                if not self._free.wait_for(
                    lambda: self._owner is None and not (after_others and self._num_waiting), seconds
                ):
                    return False
                self._owner, self._depth = me, 1
                return True
            finally:
                self._num_waiting -= not after_others
                self._free.notify_all()

    def give(self) -> None:
        """Give it back, as often as it was taken."""
        with self._free:
            self._depth -= 1
            if not self._depth:
                self._owner = None
                self._free.notify_all()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Have the connection.

        Raises:
            redis.TimeoutError: another thread has not given it back.
        """
        if not self.take():
            raise redis.TimeoutError("the connection is waited on and does not answer")
        try:
            yield
        finally:
            self.give()

    # -- the consumer's --------------------------------------------------------------------------------------------

    def begin_wait(self, on_end: Callable[[Any], None]) -> Any:
        """The consumer wants to wait on the connection: it, or None where others have it for longer than a moment.

        Args:
            on_end: called with the connection when it is closed meanwhile.

        Raises:
            redis.RedisError, OSError: there is none, and none can be made.
        """
        if not self.take(YIELD_SECONDS, after_others=True):
            return None
        hand = self._hand
        try:
            if getattr(hand, "connection", None) is None:
                self._hold(self._take(), used=time.monotonic())
            self._make_ready(hand.connection)
        except BaseException:
            self.give()
            raise
        hand.connection.on_end = on_end
        self._waits = True
        return hand.connection

    def end_wait(self) -> None:
        """It waits no longer."""
        self._waits = False
        self._hand.connection.on_end = None
        self._hand.used = time.monotonic()
        self.give()

    @property
    def patience(self) -> float:
        """How long a sign of life may take on this line (seconds)."""
        return float(getattr(self._hand, "patience", PROBE_SECONDS))

    def longest_wait(self, seconds: float) -> float:
        """How long it may wait that would like to wait for so long."""
        return min(seconds, max(SHORTEST_WAIT_SECONDS, round(self.wanted_in(), 1)))

    # -- in the place of each thread's connection ------------------------------------------------------------------

    @contextlib.contextmanager
    def in_hand(self) -> Iterator[Any]:
        """As it is, in a turn."""
        with self.turn(), super().in_hand() as connection:
            yield connection

    def _lend(self, *args: Any, **options: Any) -> Any:
        if not self.take():
            raise redis.TimeoutError("the connection is waited on and does not answer")
        try:
            if getattr(self._hand, "connection", None) is None:
                self._hold(self._take(), used=time.monotonic())
            return super()._lend(*args, **options)
        except BaseException:
            self.give()
            raise

    def _take_back(self, connection: Any) -> None:
        try:
            super()._take_back(connection)
        finally:
            self.give()


def _that_tells(kind: type[Any], note: Callable[[], None]) -> type[Any]:
    """Connections that call ``on_end`` when they are closed, since a thread that waits on one would not notice.

    Args:
        note: called then, too, whoever has the connection.
    """

    class Connection(kind):  # type: ignore[misc]
        on_end: Callable[[Any], None] | None = None

        def disconnect(self, *args: Any, **options: Any) -> None:
            if self._sock is not None:
                note()
            super().disconnect(*args, **options)
            if self.on_end is not None:
                self.on_end(self)

    return Connection
