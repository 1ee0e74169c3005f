"""A worker's connections to its broker, taken all at once or not at all, before it waits for its first task.

Where a server has fewer connections than its workers want, workers that each hold some of theirs and wait for the rest
would wait for ever. So a worker that cannot have all gives back what it has, and tries again a little later: half the
connections then serve half the fleet. There are two: one waits for doorbells and beats (``shared.py``), and one is the
training process's, which inherits it.
"""

from __future__ import annotations

import random
import time
from typing import Any

import structlog

from fl_core.broker.connection import Client, broker_errors, keep_for_child
from fl_core.errors import BrokerError

log = structlog.get_logger()

NUM_CONNECTIONS = 2
FULL = "max number of clients"
MAX_PAUSE_SECONDS = 3.0


class Seats:
    """The connections that a worker's parent opens before it starts its consumer.

    Args:
        client: the parent's.
        url: the broker, as the training process asks for it.
    """

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._url = url
        self._for_child: Any = None

    def take(self, doing: str) -> None:
        """Open all of them; waits while the server has not enough.

        Raises:
            BrokerUnavailable: the server is away.
            BrokerUnfit: it is none that a worker can use.
        """
        told = False
        while True:
            try:
                with broker_errors(doing):
                    self._client.quick("PING")
                    self._for_child = self._client.connection_pool.make_connection()
                    self._for_child.connect()
            except BrokerError as error:
                self._give_back()
                if FULL not in str(error):
                    raise
                if not told:
                    log.warning(
                        "the broker has not enough connections for this worker; waiting until others leave",
                        needed=NUM_CONNECTIONS, remedy="raise maxclients at the server",
                    )  # fmt: skip
                    told = True
                time.sleep(random.uniform(0.1, 1.0) * MAX_PAUSE_SECONDS)
                continue
            keep_for_child(self._url, self._for_child)
            return

    def leave_to_child(self) -> None:
        """The training process has inherited its own: close this one's copy, and not the connection."""
        if self._for_child is not None:
            keep_for_child(self._url, None)
            sock, self._for_child._sock = self._for_child._sock, None
            if sock is not None:
                sock.close()
            self._for_child = None

    def _give_back(self) -> None:
        if self._for_child is not None:
            self._for_child.disconnect()
            self._for_child = None
        self._client.close()
