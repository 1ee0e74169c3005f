"""Doing what needs the broker again and again while it is away, and knowing what it has lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

from coordinator.loop.checkpoints import Checkpoints
from coordinator.loop.surveyor import Surveyor
from coordinator.outgoing.context import Context
from fl_core.broker.lease import LostData
from fl_core.broker.overview.strangers import drop_strangers
from fl_core.broker.patience import Outage
from fl_core.errors import BrokerUnavailable, BrokerUnfit, CampaignError

T = TypeVar("T")

log = structlog.get_logger()


class Outages:
    """The loop's patience.

    Args:
        ctx: the campaign.
        interrupted: ends the waiting.
        look_after: called while the broker is away; what it raises ends the campaign.
        checkpoints, surveyor: which have to know of an outage.

    Attributes:
        loss: what the server is known to have lost of the campaign; None while it has all of it.
    """

    def __init__(
        self,
        ctx: Context,
        interrupted: threading.Event,
        look_after: Callable[[], None],
        checkpoints: Checkpoints,
        surveyor: Surveyor,
    ) -> None:
        self._ctx = ctx
        self._interrupted = interrupted
        self._look_after = look_after
        self._checkpoints = checkpoints
        self._surveyor = surveyor
        self._log = log.bind(campaign=ctx.identity.campaign)
        self.loss: LostData | None = None

    def through(self, action: Callable[[], T]) -> T:
        """Do something that needs the broker, as often as it takes.

        Raises:
            CampaignError: interrupted while the broker was away.
            BrokerUnfit: the server holds what no program of ours has written.
        """
        outage: Outage | None = None
        while True:
            try:
                result = action()
            except BrokerUnavailable as error:
                outage = outage or Outage(self._ctx.machine)
                self._wait_out(outage, error)
                continue
            except BrokerUnfit as error:
                self._mend(error)
                continue
            if outage is not None:
                self._checkpoints.note_server()
                self._log.info("the broker is back", away_seconds=round(outage.seconds, 1))
            return result

    def _wait_out(self, outage: Outage, error: BrokerUnavailable) -> None:
        if outage.is_worth_a_word(error):
            self._log.warning("waiting for the broker", reason=str(error), seconds=round(outage.seconds))
        if self._ctx.machine.wait(outage.next_pause(), self._interrupted):
            raise CampaignError(f"interrupted while the broker was away; go on with --resume. {error}") from error
        self._look_after()
        # A restarted server may have lost its last moments, which were applied here: cover them with a checkpoint.
        self._checkpoints.save_soon()
        # Everybody's beat is old now; workers need time to come back before silence means anything.
        self._surveyor.wait_for_beats()

    def _mend(self, error: BrokerUnfit) -> None:
        """Somebody has written over our keys: take them back, and restore what they held like any other loss.

        Raises:
            BrokerUnfit: it is not that.
        """
        queues = self._ctx.spec.dispatch.queues
        if not (strange := self.through(lambda: drop_strangers(self._ctx.client, self._ctx.keys, queues))):
            raise error
        self._log.warning("somebody else has written over keys of fedtide's; they are dropped", keys=strange)
        self.loss = LostData(self._ctx.identity.campaign, "held something else under the campaign's keys")
