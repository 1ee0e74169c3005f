"""One way to reach Redis, and one way in which its failures are told."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fl_core.errors import BrokerUnavailable, SpecError

# redis-py types a reply by what any client might be set to decode; ours decodes nothing, so its replies are bytes.
Client: TypeAlias = Any
DEFAULT_URL = "redis://127.0.0.1:6399/0"
CONNECT_TIMEOUT_SECONDS = 5.0
SOCKET_TIMEOUT_SECONDS = 15.0

# A half-open connection (the other side lost power) is found in 15 s without waiting for the kernel's two hours.
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in {"TCP_KEEPIDLE": 6, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3}.items()
    if hasattr(socket, name)
}

# Answers of a server that is up but cannot serve now: worth a retry, never the sender's fault.
_ADVICE = {
    "OOM": "the broker is out of memory; raise maxmemory or lower dispatch.concurrency",
    "READONLY": "the broker is a read-only replica; point fedtide to the primary",
    "MISCONF": "the broker cannot write to its disk; free space there",
    "LOADING": "the broker is loading its data",
    "UNBLOCKED": "the broker changes its role",
    "MASTERDOWN": "the broker is a replica that has lost its primary",
    "NOREPLICAS": "the broker has fewer replicas than it wants for a write",
    "BUSY": "the broker is busy with a script",
    "CLUSTERDOWN": "the broker's cluster is down",
    "TRYAGAIN": "the broker's cluster is moving keys",
}
# redis-py takes the code off the answers that it has classes for.
_CODES = {
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.TryAgainError: "TRYAGAIN",
}


def public_url(url: str) -> str:
    """The URL without its password, for logs and messages; it need not be a good one.

    >>> public_url("redis://me:secret@host:6379/0")
    'redis://me@host:6379/0'
    """
    scheme, mark, rest = url.partition("://")
    # A password that was not percent-encoded may hold any character, a slash too: it ends at the last @.
    credentials, _, rest = rest.rpartition("@")
    user = credentials.partition(":")[0]
    rest = rest.partition("?")[0]
    return f"{scheme}{mark}{user}@{rest}" if user else f"{scheme}{mark}{rest}"


def check_url(url: str) -> str:
    """The URL itself, if it can be one.

    Raises:
        SpecError: the scheme is none that Redis has, or the port is no number.
    """
    shown = public_url(url)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise SpecError(f"broker = {shown!r} is not a URL; write redis://HOST:PORT/0.") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise SpecError(
            f"broker = {shown!r} is not a Redis URL; write redis://HOST:PORT/0, rediss://... or unix://PATH."
        )
    return url


def connect(url: str, *, timeout_seconds: float = SOCKET_TIMEOUT_SECONDS) -> Client:
    """A client with timeouts, keepalive and binary replies. It connects at its first command.

    Raises:
        SpecError: the URL is not a Redis URL.
    """
    tcp = {} if url.startswith("unix:") else {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    try:
        return redis.Redis.from_url(
            check_url(url),
            socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
            socket_timeout=timeout_seconds,
            health_check_interval=30,
            # Retries are ours to make, where it is known what may be sent twice.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            **tcp,
        )
    except ValueError:
        raise SpecError(f"broker = {public_url(url)!r} is not a Redis URL; write redis://HOST:PORT/0.") from None


@contextlib.contextmanager
def broker_errors(doing: str) -> Iterator[None]:
    """Turn "Redis is not there, or cannot serve now" into ``BrokerUnavailable``; a wrong command stays what it is.

    Raises:
        BrokerUnavailable: worth a retry. The sentence says what was being done and what Redis said.
    """
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        raise BrokerUnavailable(f"{doing}: the broker does not answer ({_brief(error)}).") from error
    except redis.ResponseError as error:
        code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), str(error).partition(" ")[0])
        if (advice := _ADVICE.get(code)) is None:
            raise
        raise BrokerUnavailable(f"{doing}: {advice} ({_brief(error)}).") from error


def _brief(error: BaseException) -> str:
    return (str(error) or type(error).__name__).rstrip(".")[:200]
