"""The parts of a coordinator at work, wired to each other by ``coordinator/launch/wiring.py``."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.loop.checkpoints import Checkpoints
from coordinator.loop.decisions import Decisions
from coordinator.loop.evictions import Evictions
from coordinator.loop.intake import Intake
from coordinator.loop.monitors import Monitors
from coordinator.loop.outages import Outages
from coordinator.loop.spending import Spending
from coordinator.loop.supply import Supply
from coordinator.loop.surveyor import Surveyor
from coordinator.outgoing.keepers import KeeperAsks
from coordinator.outgoing.payloads import Payloads
from coordinator.outgoing.stalls import Stalls
from coordinator.outgoing.transaction import Transaction
from coordinator.storage.journal import Journal


@dataclass(frozen=True, slots=True)
class Parts:
    """What a turn, a recovery and the end have in common.

    Attributes:
        transaction: what is to be written at the broker.
        intake: what comes in: the log's entries.
        decisions: what the outside wants.
        supply: what goes out: versions, the order, tasks.
        surveyor: the look at what no entry tells; ``stalls`` is its proof of losses.
        evictions: whether the server drops keys.
        outages: waiting for the broker.
        payloads: of large updates.
        checkpoints, journal: what is written on disk.
        monitors: writes for watchers.
        spending: of devices' privacy budgets.
        keepers: asked for the masks of full sums.
    """

    transaction: Transaction
    intake: Intake
    decisions: Decisions
    supply: Supply
    surveyor: Surveyor
    evictions: Evictions
    stalls: Stalls
    outages: Outages
    payloads: Payloads
    checkpoints: Checkpoints
    journal: Journal
    monitors: Monitors
    spending: Spending
    keepers: KeeperAsks
