"""One way to reach Redis, and one way in which its failures are reported."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from typing import Any, TypeAlias

import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from fl_core.broker.line.failures import told
from fl_core.broker.line.reply_bound import BoundedParser
from fl_core.broker.line.short_way import BrokerClient
from fl_core.broker.url import check_url, public_url
from fl_core.errors import SpecError

log = structlog.get_logger()

# redis-py types a reply by what any client might be set to decode; ours decodes nothing, so its replies are bytes.
Client: TypeAlias = Any
DEFAULT_URL = "redis://127.0.0.1:6399/0"
CONNECT_TIMEOUT_SECONDS = 5.0
SOCKET_TIMEOUT_SECONDS = 15.0
# A half-open connection (the other side lost power) is found in 15 s without waiting for the kernel's two hours, and
# what forgets silent connections hears of this one.
KEEPALIVE = {
    getattr(socket, name): value
    for name, value in {"TCP_KEEPIDLE": 6, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3}.items()
    if hasattr(socket, name)
}


_for_child: dict[str, tuple[int, Any]] = {}


def keep_for_child(url: str, connection: Any) -> None:
    """Let the first client that a child of this process makes for this address go on with an open connection.

    Args:
        connection: None takes it back.
    """
    _for_child.pop(url, None)
    if connection is not None:
        _for_child[url] = os.getpid(), connection


def connect(
    url: str, *, timeout_seconds: float = SOCKET_TIMEOUT_SECONDS, kind: type[BrokerClient] = BrokerClient
) -> Client:
    """A client with timeouts, keepalive and binary replies. It connects at its first command.

    Args:
        kind: whose connection it is: each thread's, or one for all of them (``doorbell/shared.py``).

    Raises:
        SpecError: the URL is not a Redis URL.
    """
    tcp = {} if url.startswith("unix:") else {"socket_keepalive": True, "socket_keepalive_options": KEEPALIVE}
    if re.search(r"[?&]ssl_", url) and not url.startswith("rediss:"):
        raise SpecError(f"broker = {public_url(url)!r} has options of TLS and is not a URL with TLS; write rediss://.")
    try:
        client: Any = kind.from_url(
            check_url(url),
            socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
            socket_timeout=timeout_seconds,
            health_check_interval=30,
            # Retries are ours to make, where it is known what may be sent twice.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            parser_class=BoundedParser,
            **tcp,
        )
    except ValueError:
        raise SpecError(f"broker = {public_url(url)!r} is not a Redis URL; write redis://HOST:PORT/0.") from None
    # Where all programs share the server's own user, each may supply what the server lacks; users with the rights of
    # their work leave that to coordinators.
    client.loads_functions = client.get_connection_kwargs().get("username") in (None, "default")
    parent, connection = _for_child.get(url, (os.getpid(), None))
    if parent != os.getpid():
        del _for_child[url]
        client.adopt(connection)
    return client


@contextlib.contextmanager
def broker_errors(doing: str) -> Iterator[None]:
    """Turn whatever redis-py raises into one of three errors of ours, each one sentence (``failures.py``).

    Raises:
        BrokerUnavailable: worth a retry: it is away, or (``BrokerRefused``) it does not let us.
        BrokerUnfit: a retry would not help. Both sentences say what was being done and what Redis said.
    """
    try:
        yield
    except Exception as error:
        ours = told(doing, error)
        if ours is None:
            raise
        raise ours from error
