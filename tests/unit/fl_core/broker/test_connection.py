"""Clients: as they are made from a URL."""

from __future__ import annotations

import pytest
import redis

from fl_core.broker.connection import connect
from fl_core.errors import SpecError


def test_a_client_does_not_retry_by_itself() -> None:
    """Where a command may be sent twice is decided by its caller: one command, one attempt."""
    client = connect("redis://127.0.0.1:1/0")
    assert client.get_retry().get_retries() == 0
    assert client.connection_pool.connection_kwargs["socket_connect_timeout"] == 5.0
    with pytest.raises(redis.ConnectionError):
        client.ping()


def test_a_bad_option_in_the_url_is_told() -> None:
    """An option that redis-py cannot read is the author's, not a traceback."""
    with pytest.raises(SpecError, match="is not a Redis URL"):
        connect("redis://host:6379/0?socket_timeout=soon")
