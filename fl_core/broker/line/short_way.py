"""A short way to Redis for what is done at every task: one connection in hand, looked at before it is used."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import redis
import structlog

from fl_core.broker.line.slow_lines import Outflow, await_reply, is_readable, send_all
from fl_core.broker.line.trust import TrustingConnection

log = structlog.get_logger()

Word: TypeAlias = str | bytes | int | float | memoryview
# A connection that was used a moment ago is not asked whether the server has closed it.
FRESH_SECONDS = 1.0
# One that was silent for longer is asked for a sign of life before it is used: a NAT or a firewall on the way may have
# forgotten it without a word. That costs a round trip, and no more than this where none comes, instead of the timeout
# of whatever was to be done.
SILENT_SECONDS = 3.0
PROBE_SECONDS = 2.0
# A command as long as this may take longer than the timeout on a slow line, and is waited for while it moves.
PATIENT_BYTES = 4096


class BrokerClient(redis.Redis):
    """redis-py's client with a short way beside it, for what is done at every task.

    For each command redis-py takes a connection out of its pool, looks at it, counts it, arms a retry and gives it
    back, which is two fifths of the processor time of a small command. The short way keeps one connection in hand for
    each thread, which redis-py's own way uses as well: a thread has one. After a failure it is not known whether the
    command was done, and it is not sent again.

    Attributes:
        loads_functions: it may put fedtide's functions on the server (``fl_core/broker/scripts.py``).
    """

    loads_functions = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hand = threading.local()
        pool: Any = self.connection_pool
        if pool.connection_class is redis.SSLConnection:
            pool.connection_class = TrustingConnection
        self._take, self._put_back = pool.get_connection, pool.release
        pool.get_connection, pool.release = self._lend, self._take_back

    @contextlib.contextmanager
    def in_hand(self) -> Iterator[Any]:
        """This thread's own connection. After any failure it is closed: its replies would be out of step."""
        hand = self._hand
        connection = getattr(hand, "connection", None)
        if connection is None or hand.process != os.getpid():  # a fork's connection is its parent's
            started = time.monotonic()
            connection = self._take()
            self._hold(connection, used=time.monotonic(), patience=patience_after(started))
        hand.lent = True
        try:
            self._make_ready(connection)
            yield connection
        except BaseException:
            connection.disconnect()
            hand.unread = 0
            raise
        finally:
            hand.lent = False
        hand.used = time.monotonic()

    def adopt(self, connection: Any) -> None:
        """Go on with a connection that this process has inherited, and its parent does not use."""
        connection.pid = os.getpid()
        self._hold(connection, used=0.0)

    def _hold(self, connection: Any, used: float, patience: float = PROBE_SECONDS) -> None:
        hand = self._hand
        hand.connection, hand.process = connection, os.getpid()
        hand.used, hand.unread, hand.lent, hand.patience = used, 0, False, patience

    def _lend(self, *args: Any, **options: Any) -> Any:
        """A connection for redis-py's own way: this thread's, unless that is in use."""
        hand = self._hand
        connection = getattr(hand, "connection", None)
        if connection is None or hand.process != os.getpid() or hand.lent:
            return self._take(*args, **options)
        self._make_ready(connection)
        hand.lent = True
        return connection

    def _take_back(self, connection: Any) -> None:
        hand = self._hand
        if connection is getattr(hand, "connection", None):
            hand.lent, hand.used = False, time.monotonic()
        else:
            self._put_back(connection)

    def quick(self, *words: Word) -> Any:
        """One command by the short way, and its reply as it came.

        Raises:
            redis.RedisError, OSError: as redis-py does; see ``broker_errors``.
        """
        with self.in_hand() as connection:
            if any(isinstance(word, bytes) and len(word) > PATIENT_BYTES for word in words):
                outflow = Outflow(connection._sock)
                for part in connection.pack_command(*words):
                    send_all(connection._sock, part, outflow)
                await_reply(connection._sock, outflow)
            else:
                connection.send_command(*words)
            try:
                reply, refusal = connection.read_response(), None
            except redis.ResponseError as error:
                reply, refusal = None, error  # a whole reply: the connection is still in step
            if _has_unread(connection):
                raise redis.InvalidResponse("more than one reply to a command")
        if refusal is not None:
            raise refusal
        return reply

    def quick_both(self, first: Sequence[Word], second: Sequence[Word]) -> list[Any]:
        """Two commands in one round trip, by the short way: their replies as they came, a refusal as an exception.

        Raises:
            redis.RedisError, OSError: as redis-py does, for what is no reply.
        """
        with self.in_hand() as connection:
            connection.send_packed_command(connection.pack_commands([first, second]))
            replies: list[Any] = []
            for _ in range(2):
                try:
                    replies.append(connection.read_response())
                except redis.ResponseError as error:
                    replies.append(error)
            if _has_unread(connection):
                raise redis.InvalidResponse("more than one reply to a command")
        return replies

    def later(self, *words: Word) -> None:
        """A command by the short way whose reply is read, and dropped, before the next one: it costs no wait.

        Raises:
            redis.RedisError, OSError: it could not be sent.
        """
        with self.in_hand() as connection:
            connection.send_command(*words)
            self._hand.unread += 1

    def close(self) -> None:
        """Close this thread's connection and those of the pool; other threads' end with them."""
        connection = getattr(self._hand, "connection", None)
        if connection is not None and self._hand.process == os.getpid():
            self._hand.unread = 0
            connection.disconnect()
        super().close()

    def _make_ready(self, connection: Any) -> None:
        hand = self._hand
        try:
            self._read_late_replies(connection)
            if connection._sock is not None:
                silent = time.monotonic() - hand.used
                if (silent > FRESH_SECONDS and connection.can_read()) or not answers(connection, silent, hand.patience):
                    connection.disconnect()  # the server has closed it, or somebody on the way has forgotten it
        except (redis.ConnectionError, redis.TimeoutError, OSError):
            hand.unread = 0
            connection.disconnect()
        if connection._sock is None:
            started = time.monotonic()
            connection.connect()
            hand.patience = patience_after(started)

    def _read_late_replies(self, connection: Any) -> None:
        hand = self._hand
        while hand.unread:
            hand.unread -= 1
            with contextlib.suppress(redis.ResponseError):
                connection.read_response()


def answers(connection: Any, silent_seconds: float, patience_seconds: float) -> bool:
    """Whether a connection is alive that was silent for so long; where that is not long, it is not asked."""
    if silent_seconds <= SILENT_SECONDS or not hasattr(connection, "port"):  # nothing forgets a socket of this machine
        return True
    connection.send_command("PING", check_health=False)
    if not is_readable(connection._sock, patience_seconds):
        log.info("a connection that was silent does not answer; connecting again")
        return False
    with contextlib.suppress(redis.ResponseError):
        connection.read_response()
    return True


def patience_after(started: float) -> float:
    """How long a sign of life may take on a line on which connecting, a few round trips, has taken the time since."""
    return max(PROBE_SECONDS, 2 * (time.monotonic() - started))


def _has_unread(connection: Any) -> bool:
    """Whether more has arrived than was asked for: the next reply would be taken for another command's."""
    parser = connection._parser
    if (reader := getattr(parser, "_reader", None)) is not None:
        return bool(reader.has_data())
    buffer = getattr(parser, "_buffer", None)
    return buffer is not None and bool(buffer.unread_bytes())
