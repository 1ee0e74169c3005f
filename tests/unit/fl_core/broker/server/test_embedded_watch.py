"""An embedded server that dies is started again, and not for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_core.broker.server import embedded_watch
from fl_core.broker.server.embedded_watch import MAX_DEATHS, EmbeddedWatch
from fl_core.errors import BrokerUnavailable, CampaignError


class _Server:
    """One that can be killed by hand."""

    def __init__(self) -> None:
        self.running, self.exit_code, self.pid = True, None, 7
        self.log_path = Path("server.log")
        self.starts = 0
        self.refuses = False

    def die(self) -> None:
        self.running, self.exit_code = False, -9

    def restart(self, timeout_seconds: float) -> None:
        self.starts += 1
        if self.refuses:
            raise BrokerUnavailable("the embedded server is still loading its append-only file.")
        self.running = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> _Server:
    monkeypatch.setattr("fl_core.program.restarts.FIRST_PAUSE_SECONDS", 0.0)
    return _Server()


def test_one_that_died_is_started_again(server: _Server) -> None:
    """At the next look but one: a pause lies between."""
    watch = EmbeddedWatch(server, "the embedded broker")  # type: ignore[arg-type]
    watch.look()
    assert server.starts == 0
    server.die()
    watch.look()
    watch.look()
    assert (server.starts, server.running) == (1, True)


def test_one_that_dies_again_and_again_is_given_up(server: _Server) -> None:
    """With how it died, and where its log is."""
    watch = EmbeddedWatch(server, "the embedded broker")  # type: ignore[arg-type]
    said = r"the embedded broker died 8 times in a row; at last it was killed by SIGKILL.*see server\.log"
    with pytest.raises(CampaignError, match=said):
        for _ in range(2 * MAX_DEATHS):
            server.die()
            watch.look()
            watch.look()
    assert server.starts == MAX_DEATHS - 1


def test_one_that_does_not_come_up_is_tried_again(server: _Server) -> None:
    """It may need more time to load what it wrote."""
    watch = EmbeddedWatch(server, "the embedded broker")  # type: ignore[arg-type]
    server.refuses = True
    server.die()
    for _ in range(4):
        watch.look()
    assert server.starts == 3
    server.refuses = False
    watch.look()
    assert server.running
    assert embedded_watch.LOAD_SECONDS > 30
