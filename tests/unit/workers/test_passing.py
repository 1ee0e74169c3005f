"""Doorbells on their way to other devices: none is lost, none is doubled, and few come in a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_core.broker.connection import connect
from fl_core.broker.keys import train_queue
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.wire.messages import TaskCall
from workers import passing
from workers.breaker import Breakers
from workers.passing import Passing


def _call(number: int) -> TaskCall:
    return TaskCall(campaign="bad", task_id=f"{number}-a", attempt=1, queue="default")


def test_what_is_given_is_rung_for_once_and_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tasks, one of them given twice: nothing at once, then no more than the rate allows; at the end all."""
    server = EmbeddedServer(tmp_path, persistent=False)
    server.start()
    try:
        client, queue = connect(server.url), train_queue("default")
        clock = [1000.0]
        monkeypatch.setattr(passing.time, "monotonic", lambda: clock[0])
        way = Passing(Breakers())
        for number in (1, 2, 1, *range(3, 40)):
            way.give(_call(number))
        way.ring(client)
        assert client.llen(queue) == 0
        clock[0] += passing.HOLD_SECONDS
        way.ring(client)
        assert 1 <= client.llen(queue) <= passing.PER_SECOND + 1
        way.ring(client, at_once=True)
        messages = client.lrange(queue, 0, -1)
        assert len(messages) == 39
        assert b'"bad/1-a#1/' in messages[-1]
    finally:
        server.stop()


def test_the_parent_learns_that_a_campaign_works(tmp_path: Path) -> None:
    """Else the next child would begin with what the last one has made good."""
    server = EmbeddedServer(tmp_path, persistent=False)
    server.start()
    try:
        breakers = Breakers()
        way = Passing(breakers)
        for campaign in ("bad", "worse"):
            breakers.failed(campaign, 0.0, "no")
        way.tell_worked("worse")
        way.ring(connect(server.url))
        assert breakers.trouble().startswith("bad:")
        assert breakers.choose(TaskCall(campaign="worse", task_id="1-a", attempt=1, queue="default")) is not None
    finally:
        server.stop()
