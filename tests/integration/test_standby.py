"""Another's lease, told dead or alive by our own clock, whatever the server's says of its end."""

from __future__ import annotations

import threading
import time

import pytest
import redis

from coordinator.loop.lease import standby
from coordinator.loop.lease.standby import LeaseWatch, retake_lease
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.lease import Writer
from fl_core.errors import CampaignError, FencedOut

KEYS = CampaignKeys("digits-1")
HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "DEAD_SECONDS", 0.6)
    monkeypatch.setattr(standby, "RETAKEN_SECONDS", 0.3)
    monkeypatch.setattr(standby, "LOOK_SECONDS", 0.05)


def _writer(client: redis.Redis, holder: str = "a") -> Writer:
    return Writer(client, KEYS, holder=holder, lease_seconds=2.0)


def test_a_lease_that_ends_in_an_hour_is_dead_when_nobody_keeps_it(client: redis.Redis) -> None:
    """The server's clock was set back: the end moves once, and then it only comes nearer."""
    dead, watch = _writer(client), LeaseWatch(_writer(client, "b"))
    dead.acquire(0)
    watch.look()
    client.pexpire(KEYS.writer, HOUR_MS)
    for _ in range(3):
        watch.look()
        assert not watch.is_dead
        time.sleep(0.05)
    time.sleep(0.7)
    watch.look()
    assert watch.is_dead
    assert watch.holder == dead.token


def test_a_lease_that_is_kept_is_alive(client: redis.Redis) -> None:
    """Its end moves again and again, also where it first lay an hour away."""
    living, watch = _writer(client), LeaseWatch(_writer(client, "b"))
    living.acquire(0)
    client.pexpire(KEYS.writer, HOUR_MS)
    watch.look()
    for _ in range(2):
        time.sleep(0.55)
        living.renew()
        watch.look()
        assert not watch.is_dead
    assert watch.kept


def test_a_lease_that_ended_under_its_living_holder_is_left_to_it(client: redis.Redis) -> None:
    """The server's clock was set forward: the holder has a moment to notice. One that is dead has it no longer."""
    living, watch = _writer(client), LeaseWatch(_writer(client, "b"))
    living.acquire(0)
    watch.look()
    time.sleep(0.6)
    living.renew()
    watch.look()
    client.delete(KEYS.writer)
    watch.look()
    assert watch.may_come_back
    living.renew()
    watch.look()
    assert watch.holder == living.token
    client.delete(KEYS.writer)
    time.sleep(0.35)
    watch.look()
    assert not watch.may_come_back


def test_after_a_loss_a_dead_holder_is_waited_out_and_a_living_one_is_not(client: redis.Redis) -> None:
    """Ctrl-C ends the waiting."""
    writer, other = _writer(client, "a"), _writer(client, "b")
    other.acquire(0)
    client.pexpire(KEYS.writer, HOUR_MS)
    retake_lease(writer, 0, threading.Event())
    assert writer.holder() == writer.token
    with pytest.raises(FencedOut, match="another coordinator, whose checkpoint"):
        retake_lease(writer, writer.fence + 1, threading.Event())
    writer.release()
    other.acquire(0)
    ends = threading.Event()
    keeper = threading.Thread(target=lambda: [other.renew() for _ in iter(lambda: ends.wait(0.55), True)])
    keeper.start()
    try:
        with pytest.raises(FencedOut, match="has passed to b:"):
            retake_lease(writer, 0, threading.Event())
    finally:
        ends.set()
        keeper.join()
    interrupted = threading.Event()
    interrupted.set()
    with pytest.raises(CampaignError, match="interrupted"):
        retake_lease(writer, 0, interrupted)
