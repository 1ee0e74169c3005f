"""A worker claims a task, and learns in the same step how it is done and which version is the newest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import redis

from fl_core.broker import keys, rows, scripts
from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.patches import Patch
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.scripts import Script
from fl_core.errors import Reason, RejectedUpdate
from fl_core.wire.messages import TaskCall, TrainOrder, TrainTask
from fl_core.wire.signed import body_of, order_digest

if TYPE_CHECKING:
    from fl_core.broker.bulk.trust import Trust

# A model of one chunk comes with the answer to the claim: one round trip instead of two.
INLINE_MODEL_BYTES = 256 * 1024
# The orders of so many campaigns are remembered; each may be as long as a record.
MAX_ORDERS = 8

Verdict: TypeAlias = Literal["ok", "gone", "taken", "resting", "spent"]
_VERDICTS: dict[bytes, Verdict] = {
    b"ok": "ok", b"gone": "gone", b"taken": "taken", b"resting": "resting", b"spent": "spent"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim. ``head`` and ``task`` are there if and only if ``verdict`` is ``"ok"``.

    Attributes:
        verdict: ``"gone"``: answered, superseded or cancelled meanwhile; ``"taken"``: another worker has it;
            ``"resting"``: this worker has to wait for a newer version; ``"spent"``: it has spent its privacy budget.
        queue_seconds: how long the task waited for a worker, by the server's clock alone.
        task: the task with its order.
    """

    verdict: Verdict
    queue_seconds: float = 0.0
    head: Head | None = None
    task: TrainTask | None = None


class Claiming:
    """One worker's claims.

    Args:
        client: the broker's.
        worker: its name.
        trust: holds what the broker says against its coordinator's signature; None believes it.

    Attributes:
        worker: as given.
    """

    def __init__(self, client: Client, worker: str, trust: Trust | None = None) -> None:
        self.worker = worker
        self._trust = trust
        self._orders = _Orders(trust)
        self._claim = Script(client, scripts.CLAIM)

    def claim(self, task: TaskCall | TrainTask, cached_digest: str) -> Claim:
        """Take a task and learn its order and the newest version, in one step.

        Args:
            task: as the doorbell brought it.
            cached_digest: of the version that this process still holds, or empty; its bytes are not sent again. A
                digest and not a number: a campaign restored from a checkpoint can reach a number twice.

        Raises:
            BrokerUnavailable: nothing is claimed, or it is and the same call says so again.
            RejectedUpdate: the order is none that this program can read (malformed).
            UntrustedError: order or pointer are not what a coordinator has signed, or are old ones.
        """
        campaign = keys.CampaignKeys(task.campaign)
        known = self._orders.get(task.campaign)
        with broker_errors("claiming a task"):
            answer = self._claim(
                keys=[
                    campaign.open_tasks, campaign.owners, campaign.head, campaign.pins,
                    keys.QUEUE_COUNTS, campaign.patches, campaign.order, campaign.said(self.worker), campaign.rests,
                ],
                args=[
                    task.task_id, task.attempt, self.worker, cached_digest,
                    campaign.model, task.queue, INLINE_MODEL_BYTES, known[0] if known else "",
                ],
            )  # fmt: skip
            if not isinstance(answer, list) or not answer or answer[0] not in _VERDICTS:
                raise redis.InvalidResponse("no answer to a claim")
        if (refused := _VERDICTS[answer[0]]) not in ("ok", "gone"):
            return Claim(refused)
        heads = rows.good(campaign.head, [[*answer[2:9], answer[10]]], Head.from_row) if answer[0] == b"ok" else []
        if not heads:
            return Claim("gone")
        if answer[9] or known is None:
            known = self._orders.remember(task.campaign, answer[9])
        named, order = known
        head = heads[0]
        if self._trust is not None:
            head = self._trust.head(task.campaign, head, named, order.incarnation)
        inline = answer[11] or None if len(answer) > 11 else None
        patches = rows.good(campaign.patches, answer[12:], Patch.from_row)
        whole = len(patches) == len(answer) - 12
        head = replace(head, inline=inline, patches=tuple(patches) if whole else ())
        return Claim("ok", rows.number_or_zero(answer[1]) / 1000, head, TrainTask.of(task, order))


class _Orders:
    """How the tasks of the campaigns that were served last are done; the server sends it to who does not have it."""

    def __init__(self, trust: Trust | None) -> None:
        self._trust = trust
        self._known: dict[str, tuple[str, TrainOrder]] = {}

    def get(self, campaign: str) -> tuple[str, TrainOrder] | None:
        """An order's digest, and the order."""
        return self._known.get(campaign)

    def remember(self, campaign: str, packed: bytes) -> tuple[str, TrainOrder]:
        """Take in what the server sent: its digest, and the order.

        Raises:
            RejectedUpdate: it is no order of that campaign (malformed).
            UntrustedError: no coordinator has signed it.
        """
        body = body_of(packed) if self._trust is None else self._trust.order(campaign, packed)
        order = TrainOrder.from_bytes(body)
        if order.campaign != campaign:
            raise RejectedUpdate(Reason.MALFORMED, f"the order of campaign {campaign} is for {order.campaign}")
        self._known.pop(campaign, None)
        self._known[campaign] = (order_digest(packed), order)
        while len(self._known) > MAX_ORDERS:
            del self._known[next(iter(self._known))]
        return self._known[campaign]
