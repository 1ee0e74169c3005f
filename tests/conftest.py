"""What all tests share: one real broker per test process, and how hard hypothesis tries."""

from __future__ import annotations

import logging
import os
import sys

# Where compiled modules are never kept, each of some hundred programs would compile all of ours.
os.environ["PYTHONDONTWRITEBYTECODE"] = ""
# Before torch and numpy are loaded: test processes run side by side, and each would start a thread per core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Iterator

import pytest
import redis
import structlog
from hypothesis import HealthCheck, settings
from structlog._config import BoundLoggerLazyProxy

from fl_core.broker import scripts
from fl_core.broker.connection import connect
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.server.embedded import EmbeddedServer

sys.dont_write_bytecode = False

# Said to be configured, so that a campaign that is run from a test leaves it alone: later tests read logs.
structlog.configure()

OURS = ("fedtide", "fl_core", "coordinator", "workers", "keepers")

# A shared machine makes single examples slow now and then, which says nothing about the code.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=50, **_COMMON)
settings.register_profile("ci", max_examples=50, derandomize=True, **_COMMON)
settings.register_profile("thorough", max_examples=2000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A command that is run in the test's process configures logs for good, and loggers keep what they were first used
    with; later tests read logs as they are without it."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    if structlog.get_config()["logger_factory"] is before["logger_factory"]:
        return
    structlog.configure(**before)
    root.handlers[:], root.level = handlers, level
    for module in [each for name, each in sys.modules.items() if name.partition(".")[0] in OURS]:
        if isinstance(log := getattr(module, "log", None), BoundLoggerLazyProxy):
            vars(log).pop("bind", None)


@pytest.fixture(scope="session")
def broker_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A real server on a free port, for as long as this test process lives."""
    with EmbeddedServer(tmp_path_factory.mktemp("broker"), persistent=False) as server:
        scripts.load(connect(server.url))  # FLUSHALL leaves them
        yield server


@pytest.fixture
def client(broker_server: EmbeddedServer) -> Iterator[redis.Redis]:
    """A client of an empty server, made as the product makes it."""
    with connect(broker_server.url) as client:
        client.flushall()
        yield client


@pytest.fixture(params=["server", "twin"])
def server_and_twin(request: pytest.FixtureRequest) -> redis.Redis:
    """The same, and a client of an empty twin in memory: what passes with both means the same to both."""
    if request.param == "twin":
        return MemoryClient(MemoryServer())
    client: redis.Redis = request.getfixturevalue("client")
    return client
