"""The containers' health check, run as a container runs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from fl_core.broker.keys import CAMPAIGNS, DEVICES, CampaignKeys
from fl_core.broker.server.embedded import EmbeddedServer

SCRIPT = Path(__file__).parents[2] / "deploy" / "healthcheck.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("broker"), persistent=False) as server:
        yield server


def _check(url: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("FEDTIDE_")}
    variables |= {"FEDTIDE_BROKER": url, "PYTHONPATH": str(SCRIPT.parents[1]), **environment}
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], env=variables, capture_output=True, text=True, timeout=30
    )


def test_broker_alone(server: EmbeddedServer) -> None:
    """Without an argument it is enough that the broker answers, and a dead broker is told in one line."""
    assert _check(server.url).returncode == 0
    dead = _check("redis://127.0.0.1:1/0")
    assert dead.returncode == 1
    assert dead.stderr.startswith("the broker does not answer")
    assert len(dead.stderr.splitlines()) == 1


def test_worker_needs_a_fresh_heartbeat(server: EmbeddedServer) -> None:
    """A worker is healthy while its own last beat is fresh; an old one or somebody else's does not count."""
    with redis.Redis.from_url(server.url) as client:
        now, _ = client.time()
        client.zadd(DEVICES, {f"{socket.gethostname()}-1 0a": (now - 120) * 1000, "somebody-else 0a": now * 1000})
        assert _check(server.url, "worker").returncode == 1
        client.zadd(DEVICES, {f"{socket.gethostname()}-1 0a": now * 1000})
        assert _check(server.url, "worker").returncode == 0
        assert _check(server.url, "worker", FEDTIDE_NAME="device-7").returncode == 1


def test_coordinator_needs_a_campaign_with_a_writer(server: EmbeddedServer) -> None:
    """A coordinator is healthy while some campaign's lease is held."""
    assert _check(server.url, "coordinator").returncode == 1
    with redis.Redis.from_url(server.url) as client:
        client.zadd(CAMPAIGNS, {"digits-1": 1})
        client.set(CampaignKeys("digits-1").writer, "token")
    assert _check(server.url, "coordinator").returncode == 0
