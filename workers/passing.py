"""Doorbells that this device passes on: the child gives them to its parent, which rings again a moment later.

Not at once, because this worker would take them again at once; and not many in a second, because each costs the
neighbours a turn. What is lost on the way (the worker is killed) the coordinator rings for again.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections import OrderedDict

from fl_core.broker.connection import Client
from fl_core.broker.doorbell.message import pass_on
from fl_core.errors import RejectedUpdate
from fl_core.wire.messages import TaskCall
from workers.breaker import Breakers

HOLD_SECONDS = 0.25
PER_SECOND = 10
MAX_HELD = 4096
_WORKED = b"\0"  # no record begins so


class Passing:
    """Made before the fork; the child gives, the parent rings.

    Args:
        breakers: the parent's, with which the next child begins.
    """

    def __init__(self, breakers: Breakers) -> None:
        self._breakers = breakers
        # Both kinds keep messages apart; Linux queues no more than ten datagrams.
        kind = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
        self._parent, self._child = socket.socketpair(socket.AF_UNIX, kind)
        self._parent.setblocking(False)
        self._child.setblocking(False)
        self._held: OrderedDict[tuple[str, str, int], tuple[TaskCall, float]] = OrderedDict()
        self._next = 0.0

    def give(self, call: TaskCall) -> None:
        """In the child: this one is for others."""
        with contextlib.suppress(OSError):  # the parent is behind; the coordinator rings again
            self._child.send(call.to_bytes())

    def tell_worked(self, campaign: str) -> None:
        """In the child: this campaign, which had failed, works."""
        with contextlib.suppress(OSError):
            self._child.send(_WORKED + campaign.encode())

    @property
    def holds_any(self) -> bool:
        """In the parent: whether it has one to ring for."""
        return bool(self._held)

    def ring(self, client: Client, *, at_once: bool = False) -> None:
        """In the parent: ring for what has been held long enough, the oldest first.

        Args:
            client: the broker's.
            at_once: for all, because this worker stops.

        Raises:
            BrokerError: the broker is away; what is held stays.
        """
        self._take()
        now = time.monotonic()
        while self._held and (at_once or now >= self._next):
            name, (call, since) = next(iter(self._held.items()))
            if now - since < HOLD_SECONDS and not at_once:
                return
            pass_on(client, call)
            del self._held[name]
            self._next = max(self._next, now - 1.0) + 1 / PER_SECOND

    def _take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                said = self._parent.recv(TaskCall.max_bytes)
                if said.startswith(_WORKED):
                    self._breakers.worked(said[len(_WORKED) :].decode())
                    continue
                with contextlib.suppress(RejectedUpdate):
                    call = TaskCall.from_bytes(said)
                    if len(self._held) < MAX_HELD:
                        name = (call.campaign, call.task_id, call.attempt)
                        self._held.setdefault(name, (call, time.monotonic()))
