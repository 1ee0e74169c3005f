"""Another's lease, watched by this machine's monotonic clock: the server's may jump, and its expiry with it."""

from __future__ import annotations

import threading

import structlog

from coordinator.loop.lease.keeper import LEASE_SECONDS
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.holder import lives_here
from fl_core.broker.lease import Writer
from fl_core.broker.patience import Outage
from fl_core.clock import MACHINE, Clock
from fl_core.errors import BrokerUnavailable, CampaignError, FencedOut

LOOK_SECONDS = 1.0
# A holder keeps its lease three times in its life, and each time moves its end.
MOVED_SECONDS = 0.5
DEAD_SECONDS = LEASE_SECONDS + 2.0
# A lease that ends while its holder lives (the server's clock went forward) is taken again within so many seconds.
RETAKEN_SECONDS = 2.5

log = structlog.get_logger()


class LeaseWatch:
    """Tells a lease that somebody keeps from one that was left behind.

    Args:
        writer: who would like to have it.
        clock: this machine's.

    Attributes:
        holder: who has the lease as of the last look; None where nobody has it.
        last_holder: who had it last.
        kept: that one was seen keeping it.
    """

    def __init__(self, writer: Writer, clock: Clock = MACHINE) -> None:
        self._writer = writer
        self._clock = clock
        self._ends = self._since = self._seen = 0.0
        self.holder: str | None = None
        self.last_holder = ""
        self.kept = False

    def look(self) -> None:
        """Look once.

        Raises:
            BrokerUnavailable: unknown.
        """
        holder, left_ms = self._writer.holder(), self._writer.left_ms()
        now = self._clock.monotonic()
        self.holder = holder
        if holder is None:
            return
        ends = now + left_ms / 1000 if left_ms >= 0 else 0.0
        if holder != self.last_holder:
            self.kept = False
            self._since = now
        elif abs(ends - self._ends) > MOVED_SECONDS:
            self._since = now  # by its holder, or by a jump of the server's clock, which happens once
            self.kept = self.kept or ends > self._ends
        self.last_holder, self._ends, self._seen = holder, ends, now

    @property
    def is_dead(self) -> bool:
        """Nobody has kept this lease for longer than one lasts."""
        return self.holder is not None and self._clock.monotonic() - self._since > DEAD_SECONDS

    @property
    def may_come_back(self) -> bool:
        """The lease has just ended, and the holder that kept it has not had the time to notice."""
        return self.holder is None and self.kept and self._clock.monotonic() - self._seen < RETAKEN_SECONDS


def retake_lease(writer: Writer, floor: int, interrupted: threading.Event, clock: Clock = MACHINE) -> None:
    """Hold the lease again after a server lost data, and perhaps the lease with it.

    A server that went back in time may name an earlier holder. If that one is dead, its lease is waited out.

    Args:
        writer: a coordinator's, which held the lease until now.
        floor: the highest fence in the checkpoints.
        interrupted: ends the waiting.
        clock: this machine's.

    Raises:
        FencedOut: another coordinator lives.
        CampaignError: interrupted.
        BrokerUnavailable: try again.
    """
    if floor > writer.fence:
        raise FencedOut(
            f"campaign {writer.campaign} has passed to another coordinator, whose checkpoint is here; this one ends."
        )
    watch = LeaseWatch(writer, clock)
    while not writer.acquire(max(floor, writer.fence)):
        watch.look()
        if watch.kept:
            raise FencedOut(f"campaign {writer.campaign} has passed to {watch.holder}; this coordinator ends.")
        if watch.holder is not None and watch.is_dead:
            writer.evict(watch.holder)
        elif clock.wait(LOOK_SECONDS, interrupted):
            raise CampaignError(f"interrupted while {watch.holder} had the campaign's lease; go on with --resume.")


def take_lease(writer: Writer, store: CheckpointStore, clock: Clock = MACHINE) -> None:
    """Become the campaign's one writer, or wait as standby until the one there is gives up or dies.

    Args:
        writer: this coordinator's.
        store: knows the fences of those before.
        clock: this machine's.
    """
    told, outage, watch = False, Outage(clock), LeaseWatch(writer, clock)
    while True:
        try:
            watch.look()
            if not watch.may_come_back and writer.acquire(store.highest_fence()):
                break
            holder = watch.holder
            lives = None if holder is None else lives_here(holder)
            if holder is not None and (lives is False or watch.is_dead):
                log.info("the last coordinator is dead; not waiting for its lease", holder=holder)
                writer.evict(holder)
                continue
            watch.kept |= bool(lives)
            if not told:
                log.info("standby: another coordinator runs this campaign", holder=holder)
                told = True
        except BrokerUnavailable as error:
            if outage.is_worth_a_word(error):
                log.warning("standby waits for the broker", reason=str(error))
        clock.wait(LOOK_SECONDS)
    if watch.kept and watch.last_holder:
        writer.predecessor = watch.last_holder
    if told:
        log.info("taking over", fence=writer.fence)
