"""Timeouts for silence, not for slowness: as long as a byte moves in the time, it is waited for.

A socket's own timeout bounds one call, and ``sendall`` is one call: a megabyte that takes longer than the timeout could
never be sent. Sent in parts, the kernel's buffer still hides that a slow line works, so the kernel is asked how much of
what it took has been acknowledged since.
"""

from __future__ import annotations

import fcntl
import select
import struct
import termios
import time
from collections.abc import Callable
from typing import Any

TELL_SECONDS = 5.0
LOOK_SECONDS = 1.0


class Transfer:
    """How far a payload has got, over as many attempts as it takes; what has arrived is not sent again.

    Args:
        on_progress: called with ``done`` every five seconds while it goes on.
        on_moved: called whenever bytes have moved; what it raises ends the attempt.

    Attributes:
        done: bytes from the beginning that have arrived.
        attempts: how many were begun.
    """

    def __init__(
        self, on_progress: Callable[[int], None] | None = None, on_moved: Callable[[], None] = lambda: None
    ) -> None:
        self._on_progress = on_progress
        self._on_moved = on_moved
        self._next = time.monotonic() + TELL_SECONDS
        self.done = 0
        self.attempts = 0

    def tell(self, moved: int) -> None:
        """So many bytes have moved by now, though they may not have arrived."""
        self._on_moved()
        if self._on_progress is not None and (now := time.monotonic()) >= self._next:
            self._next = now + TELL_SECONDS
            self._on_progress(moved)


class Outflow:
    """Whether bytes leave a socket's buffer while nothing else is heard of the other side.

    Args:
        on_moved: called with how many are still there, whenever they are found to move.
    """

    def __init__(self, sock: Any, on_moved: Callable[[int], None] | None = None) -> None:
        self._sock = sock
        self._on_moved = on_moved
        self._queued: int | None = None

    def accepted(self) -> None:
        """The kernel took more just now."""
        self._queued = None

    def has_moved(self) -> bool:
        """Since the last call, or since it took more."""
        queued, before = _queued_bytes(self._sock), self._queued
        self._queued = queued
        moved = queued > 0 and (before is None or queued < before)
        if moved and self._on_moved is not None:
            self._on_moved(queued)
        return moved


def send_all(
    sock: Any, data: bytes | memoryview, outflow: Outflow, on_sent: Callable[[int], None] | None = None
) -> None:
    """Send all of it, however long it takes, while it moves.

    Args:
        on_sent: called with how many bytes of ``data`` were taken, each time.

    Raises:
        OSError: nothing has moved for the socket's timeout, or the connection is closed.
    """
    view = memoryview(data)
    sent = 0
    while sent < len(view):
        try:
            sent += sock.send(view[sent:])
        except TimeoutError:
            if not outflow.has_moved():
                raise
            continue
        outflow.accepted()
        if on_sent is not None:
            on_sent(sent)


def await_reply(sock: Any, outflow: Outflow) -> None:
    """Wait until something has come, while what was sent still leaves.

    Raises:
        TimeoutError: nothing has come or left for the socket's timeout.
    """
    limit, moved = sock.gettimeout(), time.monotonic()
    while not is_readable(sock, LOOK_SECONDS if limit is None else min(limit, LOOK_SECONDS)):
        if outflow.has_moved():
            moved = time.monotonic()
        elif limit is not None and time.monotonic() - moved >= limit:
            raise TimeoutError("timed out")


def is_readable(sock: Any, seconds: float | None) -> bool:
    """Whether something has come, or comes within that time."""
    if getattr(sock, "pending", lambda: 0)():  # TLS has decrypted more than was asked for
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(None if seconds is None else 1000 * seconds))


def _queued_bytes(sock: Any) -> int:
    """What the other side has not acknowledged; 0 where the kernel does not say."""
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    except (OSError, ValueError):
        return 0
    return int(struct.unpack("i", answer)[0])
