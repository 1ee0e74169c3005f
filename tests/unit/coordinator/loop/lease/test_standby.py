"""Another's lease, found dead or alive by this machine's clock, whatever the server's clock says of its end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from coordinator.loop.lease.standby import DEAD_SECONDS, RETAKEN_SECONDS, LeaseWatch, retake_lease, take_lease
from coordinator.simulation.clock import VirtualClock
from coordinator.storage.checkpoint import CheckpointStore
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.lease import Writer
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.errors import BrokerUnavailable, CampaignError, FencedOut

KEYS = CampaignKeys("digits-1")
HOUR_MS = 3_600_000


class World:
    """A broker in memory, and the machine's clock, which goes on while somebody waits."""

    def __init__(self) -> None:
        server = MemoryServer()
        self.client = MemoryClient(server)
        self.clock = VirtualClock(server.keyspace)

    def writer(self, holder: str = "a") -> Writer:
        return Writer(self.client, KEYS, holder=holder, lease_seconds=9.0)

    def watch(self) -> LeaseWatch:
        return LeaseWatch(self.writer("b"), self.clock)


@pytest.fixture
def world() -> World:
    return World()


def test_a_lease_that_ends_in_an_hour_is_dead_when_nobody_keeps_it(world: World) -> None:
    """The server's clock was set back: the end moves once, and then it only comes nearer."""
    dead, watch = world.writer(), world.watch()
    dead.acquire(0)
    watch.look()
    world.client.pexpire(KEYS.writer, HOUR_MS)
    for _ in range(3):
        watch.look()
        assert not watch.is_dead
        world.clock.wait(0.1)
    world.clock.wait(DEAD_SECONDS + 1)
    watch.look()
    assert watch.is_dead
    assert watch.holder == dead.token


def test_a_lease_that_is_kept_is_alive(world: World) -> None:
    """Its end moves again and again, also where it first lay an hour away."""
    living, watch = world.writer(), world.watch()
    living.acquire(0)
    world.client.pexpire(KEYS.writer, HOUR_MS)
    watch.look()
    for _ in range(10):
        world.clock.wait(3.0)
        living.renew()
        watch.look()
        assert not watch.is_dead
    assert watch.kept


def test_a_lease_that_ended_under_its_living_holder_is_left_to_it(world: World) -> None:
    """The server's clock was set forward: the holder has a moment to notice. One that is dead has it no longer."""
    living, watch = world.writer(), world.watch()
    living.acquire(0)
    watch.look()
    world.clock.wait(3.0)
    living.renew()
    watch.look()
    world.client.delete(KEYS.writer)
    watch.look()
    assert watch.may_come_back
    living.renew()
    watch.look()
    assert watch.holder == living.token
    world.client.delete(KEYS.writer)
    world.clock.wait(RETAKEN_SECONDS + 0.1)
    watch.look()
    assert not watch.may_come_back


def test_after_a_loss_a_dead_holder_is_waited_out(world: World) -> None:
    """Its lease would last for an hour yet. One whose checkpoint is newer than ours has taken over."""
    writer, other = world.writer("a"), world.writer("b")
    other.acquire(0)
    world.client.pexpire(KEYS.writer, HOUR_MS)
    before = world.clock.monotonic()
    retake_lease(writer, 0, threading.Event(), world.clock)
    assert writer.holder() == writer.token
    assert DEAD_SECONDS < world.clock.monotonic() - before < DEAD_SECONDS + 3
    with pytest.raises(FencedOut, match="another coordinator, whose checkpoint"):
        retake_lease(writer, writer.fence + 1, threading.Event(), world.clock)


def test_after_a_loss_a_living_holder_has_the_campaign(world: World) -> None:
    """Its lease is seen to move; Ctrl-C ends the waiting."""
    writer, other = world.writer("a"), world.writer("b")
    other.acquire(0)

    class Keeping(VirtualClock):
        def wait(self, seconds: float, until: threading.Event | None = None) -> bool:
            other.renew()
            return super().wait(seconds, until)

    with pytest.raises(FencedOut, match="has passed to b:"):
        retake_lease(writer, 0, threading.Event(), Keeping(world.client.server.keyspace))
    interrupted = threading.Event()
    interrupted.set()
    with pytest.raises(CampaignError, match="interrupted"):
        retake_lease(writer, 0, interrupted, world.clock)


def test_a_standby_takes_over_when_the_lease_has_run_out(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says that it stands by, waits while the broker is away, and knows whom it follows."""
    leading, standby = world.writer("a"), world.writer("b")
    leading.acquire(0)
    kept = 0

    class Keeping(VirtualClock):
        def wait(self, seconds: float, until: threading.Event | None = None) -> bool:
            nonlocal kept
            kept += 1
            if kept < 6:
                leading.renew()
            return super().wait(seconds, until)

    look, failures = standby.left_ms, [BrokerUnavailable("away")]

    def away_once() -> int:
        if kept == 3 and failures:
            raise failures.pop()
        return look()

    standby.left_ms = away_once  # type: ignore[method-assign]
    take_lease(standby, CheckpointStore(str(tmp_path)), Keeping(world.client.server.keyspace))
    assert standby.holder() == standby.token
    assert standby.predecessor == leading.token
    said = capsys.readouterr().out
    assert said.count("standby: another coordinator runs this campaign") == 1
    assert said.count("standby waits for the broker") == 1
