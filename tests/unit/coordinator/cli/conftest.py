"""Commands as they are typed, over a broker in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from coordinator.cli import fedtide
from coordinator.monitor import queues as queues_module
from fl_core.broker import connection
from fl_core.broker.memory.client import MemoryClient, MemoryServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> MemoryServer:
    """What every command finds behind its ``--broker``."""
    server = MemoryServer()

    def connect(url: str, **settings: Any) -> MemoryClient:
        return MemoryClient(server)

    # A module that is imported while this lasts would keep it: those that commands import are here before.
    for module in (connection, queues_module):
        monkeypatch.setattr(module, "connect", connect)
    return server


@pytest.fixture
def run() -> Callable[..., Result]:
    """Runs a command; exceptions of ours come out as they do in a terminal."""

    def run(*words: str) -> Result:
        return CliRunner().invoke(fedtide, list(words), prog_name="fedtide")

    return run
