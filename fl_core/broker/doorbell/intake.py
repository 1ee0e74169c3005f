"""A worker's intake from its queues: calls alone, and the connection on which it waits for them.

Each message is read before Celery sees it, and a new one is made of its call (``rewriting.py``). What holds none is
dropped and counted, and never goes back.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from queue import Empty
from typing import Any, ClassVar

import redis
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from fl_core.broker.doorbell.dropped import dropped
from fl_core.broker.doorbell.rewriting import rewrite
from fl_core.broker.doorbell.shared import SharedClient
from fl_core.broker.line.reply_bound import BoundedParser, ReplyTooLong
from fl_core.broker.line.short_way import answers, patience_after
from fl_core.broker.line.trust import TrustingConnection
from fl_core.errors import RejectedUpdate

# So much of a message comes to a worker; remote control's are longer than doorbells.
MAX_TRANSFER_BYTES = 2**20
# So long does the server keep a worker waiting that has nothing to do: at first, and twice as long each time, up to the
# last. A line that is dead is noticed a little later, so soon while there is work.
FIRST_WAIT_SECONDS = 2
LAST_WAIT_SECONDS = 20


def use_intake(shared: SharedClient | None = None) -> None:
    """Let Celery's consumers in this process read Redis through this module.

    Args:
        shared: the client that goes on with the consumer's connection while that does not wait; None: nobody does.
    """
    Channel.shared = shared
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"


class Channel(kombu_redis.Channel):
    """kombu's, which gives a worker only what ``rewrite`` made, and takes one connection for all that it does."""

    shared: ClassVar[SharedClient | None] = None
    connection_class_ssl = TrustingConnection
    # A NAT that forgets what is silent for long swallows the doorbells of who waits for longer: waits get shorter.
    longest_wait = LAST_WAIT_SECONDS

    def __init__(self, *args: Any, **options: Any) -> None:
        self._waits = self._shut = False
        started = time.monotonic()
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        # How much later than it is due an answer may come; kombu reads it by this name.
        self.health_check_interval = patience_after(started)  # type: ignore[assignment]
        self._next_wait = self.brpop_timeout
        self._spoken = time.monotonic()

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """redis-py's own sign of life would be waited for as long as any answer."""
        found = super()._connparams(asynchronous)  # type: ignore[no-untyped-call]
        return {**found, "health_check_interval": 0, "parser_class": _Parser}

    def _create_client(self, asynchronous: bool = False) -> Any:
        """The one that waits for doorbells (kombu calls it asynchronous), or one with a connection of its own."""
        if asynchronous and self.shared is not None:
            return self.Client(connection_pool=self.shared.connection_pool)
        return super()._create_client(asynchronous)  # type: ignore[no-untyped-call]

    def begin_wait(self) -> bool:
        """Take the connection, to wait on it; False while others have it."""
        if self.shared is not None and not self._waits:
            self.client.connection = self.shared.begin_wait(self._on_connection_disconnect)
            self._waits = self.client.connection is not None
            if self._waits:
                self.client.connection._parser.limit = MAX_TRANSFER_BYTES
            self.health_check_interval = self.shared.patience  # type: ignore[assignment]
            return self._waits
        return True

    def end_wait(self) -> None:
        """Others may have it. What arrives from now on is for them, so Celery's loop does not look at it."""
        if self.shared is not None and self._waits:
            self._waits = False
            self.connection.cycle._on_connection_disconnect(self.client.connection)
            self.client.connection._parser.limit = BoundedParser.limit
            if self._shut:
                self.client.connection.disconnect()
            self.client.connection = None
            self.shared.end_wait()

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Begin to wait for a doorbell; on a new connection where this one is dead."""
        connection = self.client.connection
        try:
            silent = 0.0 if self.shared is not None else time.monotonic() - self._spoken  # it has just been looked at
            alive = answers(connection, silent, self.health_check_interval)
        except self.connection_errors:
            alive = False
        if not alive:
            connection.disconnect()
            self.connection.cycle._register(self, self.client, "BRPOP")
        self._spoken = time.monotonic()
        self.brpop_timeout = self._next_wait if self.shared is None else self.shared.longest_wait(self._next_wait)
        super()._brpop_start(timeout)  # type: ignore[no-untyped-call]

    def _on_connection_disconnect(self, connection: Any) -> None:
        waited = self._in_poll is connection
        if waited and time.monotonic() > self._brpop_sent_at + self.brpop_timeout:
            type(self).longest_wait = max(FIRST_WAIT_SECONDS, self.brpop_timeout // 2)
            self._next_wait = FIRST_WAIT_SECONDS
        super()._on_connection_disconnect(connection)  # type: ignore[no-untyped-call]
        if waited:
            self.end_wait()

    @contextlib.contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """A client for one command: that which waits for doorbells, while it does not wait."""
        yield client or (self._create_client() if self._in_poll else self.client)

    def close(self) -> None:
        """End at once: what this worker waits for may be 20 s away."""
        polled = self._in_poll
        if polled and getattr(polled, "_sock", None) is not None:
            with contextlib.suppress(OSError):
                # The server answers with a doorbell that it has taken off its queue already, or with the end.
                polled._sock.shutdown(socket.SHUT_WR)
                self._shut = True
        try:
            super().close()  # type: ignore[no-untyped-call]
        except self.connection_errors:
            self._in_poll = None
            super().close()  # type: ignore[no-untyped-call]

    def _brpop_read(self, **options: Any) -> bool:
        """The next call, as kombu's own method of that name; a message without one is as if none had come."""
        self._spoken = time.monotonic()
        connection = self.client.connection
        try:
            try:
                reply = self.client.parse_response(connection, "BRPOP", **options)
            except ReplyTooLong as error:
                # The server has taken it off its queue; the rest of it goes with the connection.
                connection.disconnect()
                dropped.add("one that is served here", str(error))
                raise Empty from None
            except self.connection_errors:
                self._next_wait = FIRST_WAIT_SECONDS
                connection.disconnect()
                raise
            if not reply:
                if self.brpop_timeout >= self._next_wait:
                    self._next_wait = min(2 * self._next_wait, self.longest_wait)
                raise Empty
            self._next_wait = FIRST_WAIT_SECONDS
            key, item = reply
            queue = key.decode(errors="replace").rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            try:
                message = rewrite(item, queue)
            except RejectedUpdate as error:
                dropped.add(queue, error.detail)
                raise Empty from None
            self.connection._deliver(message, queue)
            return True
        finally:
            self._in_poll: Any = None
            self._flush_brpop_reauth()  # type: ignore[no-untyped-call]
            self.end_wait()

    def _receive_one(self, c: Any) -> Any:
        """A message to all workers (Celery's remote control, where it is on): one that cannot be read ends nothing."""
        try:
            return super()._receive_one(c)  # type: ignore[no-untyped-call]
        except (Empty, redis.RedisError, OSError):
            raise
        except Exception as error:
            dropped.add("remote control", f"it cannot be read ({type(error).__name__})")
            return None


class _Parser(BoundedParser):
    limit = MAX_TRANSFER_BYTES


class _Poller(kombu_redis.MultiChannelPoller):
    """kombu's, for a channel whose connection is others' as well."""

    def _register_BRPOP(self, channel: Channel) -> None:  # noqa: N802
        if not channel.begin_wait():
            return
        try:
            super()._register_BRPOP(channel)  # type: ignore[no-untyped-call]
        finally:
            if not channel._in_poll:
                channel.end_wait()


class Transport(kombu_redis.Transport):
    """kombu's for Redis, with the channel above."""

    Channel = Channel
    brpop_timeout = FIRST_WAIT_SECONDS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self.cycle: Any = _Poller()  # type: ignore[no-untyped-call]
