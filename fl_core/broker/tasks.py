"""The device's side of a task at the broker: claim it, deliver its update, or report that there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import redis

from fl_core.broker import keys, rows, scripts
from fl_core.broker.bulk.chunks import chunk_keys, count_chunks
from fl_core.broker.bulk.downloads import Downloads, verify
from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.places import Places, read_place
from fl_core.broker.bulk.uploads import Uploads
from fl_core.broker.claiming import Claim, Claiming
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.inbox import INLINE_BYTES, packed
from fl_core.broker.line.slow_lines import Transfer
from fl_core.broker.scripts import Script
from fl_core.broker.task_rows import is_attempt
from fl_core.errors import BrokerUnavailable, Reason, RejectedUpdate
from fl_core.identity.domain import Domain, Seal
from fl_core.wire.messages import ModelUpdate, TaskCall, TaskReport, TrainTask, own_blob

if TYPE_CHECKING:
    from fl_core.broker.bulk.trust import Trust

# Called while a payload takes long, with its way ("up" or "down"), the bytes that have moved, and all of them.
OnProgress = Callable[[Literal["up", "down"], int, int], None]
# The claim said where updates go; a task that took longer asks again.
PLACE_SECONDS = 10.0
# A broker that has lost a campaign gets it again within seconds, where somebody coordinates it.
UNKNOWN_SECONDS = 60.0


class TaskBroker:
    """What a worker does at the broker for the tasks of all campaigns. It is one process's own: not for sharing.

    Args:
        client: the broker's.
        worker: this worker's name.
        given: servers for versions and updates that the worker's owner has named (``places.py``).
        on_progress: called every five seconds while a payload is on its way.
        on_moved: called whenever bytes of one have moved; what it raises ends the transfer.
        seal: signs what is sent; None sends it as it is.
        trust: holds orders and pointers against their coordinator's signature; None believes them.
    """

    def __init__(
        self,
        client: Client,
        worker: str,
        given: Iterable[str] = (),
        on_progress: OnProgress | None = None,
        on_moved: Callable[[], None] = lambda: None,
        seal: Seal | None = None,
        trust: Trust | None = None,
    ) -> None:
        self._client = client
        self._on_progress = on_progress
        self._on_moved = on_moved
        self._seal: Seal = seal or (lambda domain, record: record)
        self._places = Places(client, given)
        self._worker = worker
        self._told = ("", "", float("-inf"))
        self._missing = ("", 0.0)
        self._downloads = Downloads(self._places, lambda num_bytes: self._transfer("down", num_bytes))
        self._uploads = Uploads(self._places, lambda num_bytes: self._transfer("up", num_bytes))
        self._claiming = Claiming(client, worker, trust)
        self._deliver = Script(client, scripts.DELIVER)
        self._report = Script(client, scripts.REPORT)
        self._moving = Script(client, scripts.MOVING)

    def _transfer(self, way: Literal["up", "down"], num_bytes: int) -> Transfer:
        told = self._on_progress
        return Transfer(None if told is None else lambda done: told(way, done, num_bytes), self._on_moved)

    def become(self, worker: str) -> None:
        """Be another worker from now on: a simulation plays one after the other."""
        self._worker = self._claiming.worker = worker

    def claim(self, task: TaskCall | TrainTask, cached_digest: str) -> Claim:
        """As ``Claiming.claim``, which has the arguments and errors."""
        claim = self._claiming.claim(task, cached_digest)
        if claim.head is not None:
            self._told = (task.campaign, claim.head.updates, time.monotonic())
        return claim

    def fetch(self, task: TrainTask, head: Head, into: memoryview | None = None) -> memoryview | bytes:
        """The bytes of the version that the claim named, checked against its digest.

        Args:
            into: memory that may be used where it has the right size; whatever comes of it, its content is lost.

        Raises:
            MissingBlob: that version is gone or damaged; claim again.
            BrokerUnavailable: the broker, or the server that has the version, is away; claim again.
        """
        if head.inline is not None:
            verify(head.inline, head)
            return head.inline
        payload = self._downloads.version(keys.CampaignKeys(task.campaign), head, into)
        self._release(task)
        verify(payload, head)
        return payload

    def fetch_constants(self, task: TrainTask, num_bytes: int) -> memoryview:
        """What no version of the task's campaign carries, checked against the digest that the order names.

        Raises:
            MissingBlob, BrokerUnavailable: not now; the coordinator may be about to write it again.
        """
        return self._downloads.constants(keys.CampaignKeys(task.campaign), task.constants_digest, num_bytes)

    def fetch_patches(self, task: TrainTask, head: Head) -> Iterator[memoryview]:
        """The patches that the claim named, one after the other.

        Raises:
            MissingBlob, BrokerUnavailable: one cannot be had; fetch the version.
        """
        yield from self._downloads.patches(keys.CampaignKeys(task.campaign), head)
        self._release(task)

    def _release(self, task: TrainTask) -> None:
        """The version that the claim named is not needed any more."""
        with broker_errors("releasing a version"):
            self._client.later("HDEL", keys.CampaignKeys(task.campaign).pins, task.task_id)

    def is_wanted(self, task: TrainTask) -> bool:
        """Whether the coordinator still waits for this attempt.

        Raises:
            BrokerUnavailable: unknown.
        """
        with broker_errors("asking for a task"):
            value = self._client.hget(keys.CampaignKeys(task.campaign).open_tasks, task.task_id)
        return is_attempt(value, task.attempt)

    def say_moving(self, campaign: str, task_id: str, attempt: int) -> bool:
        """Say that a task's bytes move, so that its time does not run; False where nobody waits for them any more.

        Raises:
            BrokerUnavailable: unknown.
        """
        names = keys.CampaignKeys(campaign)
        with broker_errors("saying that bytes move"):
            said = names.said(self._worker)
            return bool(self._moving([names.open_tasks, names.owners, said], [task_id, attempt, self._worker]))

    def deliver(self, update: ModelUpdate, payload: bytes | memoryview, *, begun_before: bool = False) -> bool:
        """Put an update into its campaign's inbox; False when the campaign takes nothing more.

        It has ended, or the broker does not know it and nobody has written it again for a minute. A second delivery of
        the same update does no harm: the coordinator counts one.

        Args:
            begun_before: an earlier life of this worker may have sent a part of the payload; it is not sent again.

        Raises:
            BrokerUnavailable: it may or may not have arrived; deliver again.
            RejectedUpdate: a field has an unacceptable value (malformed).
        """
        campaign = keys.CampaignKeys(update.campaign)
        chunks: list[str] = []
        place = ""
        inline = payload if not update.blob else b""
        if update.blob:
            name = update.campaign
            update, place = self._uploads.put(update, payload, lambda: self._updates_place(name), begun_before)
            chunks = chunk_keys(campaign.blob(update.blob), update.payload_bytes)
        header = self._seal(Domain.UPDATE, update.to_bytes())
        with broker_errors("delivering an update"), self._uploads.named_once(place):
            try:
                answer = self._deliver(
                    [
                        campaign.inbox, campaign.bell, campaign.open_tasks, campaign.pins, campaign.incarnation,
                        campaign.said(self._worker),
                    ],
                    [update.task_id, update.attempt, packed("u", header, inline), *([] if place else chunks)],
                )  # fmt: skip
            except redis.ResponseError as error:
                if "MISSINGCHUNK" in str(error):
                    self._uploads.forget()
                    raise RejectedUpdate(
                        Reason.MISSING_PAYLOAD, "a chunk expired before the update was complete"
                    ) from error
                raise
        if answer == b"full":
            raise BrokerUnavailable(
                f"delivering an update: the inbox of campaign {update.campaign} is full; nobody takes it in now."
            )
        over = answer == b"over" or (answer == b"unknown" and self._is_gone(update.campaign))
        self._missing = "", 0.0
        self._uploads.forget()
        if over:
            with broker_errors("dropping an unwanted payload"):
                if chunks:
                    self._places.at(place).unlink(*chunks)
            return False
        return True

    def _is_gone(self, campaign: str) -> bool:
        """Whether a campaign that the broker has forgotten has been missing for so long that nobody writes it again.

        Raises:
            BrokerUnavailable: not yet.
        """
        missing, since = self._missing
        if missing != campaign:
            self._missing = missing, since = campaign, time.monotonic()
        if time.monotonic() - since < UNKNOWN_SECONDS:
            raise BrokerUnavailable(
                f"delivering an update: the broker has no campaign {campaign} (any more); if it has lost its data, the "
                "coordinator writes it again."
            )
        return True

    def withdraw(self, update: ModelUpdate) -> None:
        """An update is not delivered after all: drop what of its payload has arrived.

        Raises:
            BrokerUnavailable: it ends by itself.
        """
        self._uploads.withdraw(update)

    def _updates_place(self, campaign: str) -> str:
        """Where updates go: as the claim said, if that is not long ago."""
        told_of, place, when = self._told
        if told_of == campaign and time.monotonic() - when < PLACE_SECONDS:
            return place
        with broker_errors("asking where updates go"):
            found = self._client.hget(keys.CampaignKeys(campaign).head, "updates") or b""
        return next(iter(rows.good(keys.CampaignKeys(campaign).head, [found], read_place)), "")

    def report(self, report: TaskReport) -> bool:
        """Say that a task ends here without an update. False when this worker no longer has it.

        Raises:
            BrokerUnavailable: unknown; the worker's lease tells the coordinator all the same.
        """
        campaign = keys.CampaignKeys(report.campaign)
        entry = packed("r", self._seal(Domain.REPORT, report.to_bytes()))
        with broker_errors("reporting a task"):
            taken = self._report(
                [
                    campaign.inbox, campaign.bell, campaign.owners, campaign.open_tasks, campaign.pins,
                    campaign.incarnation, campaign.said(self._worker),
                ],
                [report.task_id, report.attempt, self._worker, entry],
            )  # fmt: skip
        return taken is not None


def payload_place(task: TrainTask, worker: str, payload_bytes: int) -> tuple[str, int]:
    """Where a payload of that size travels: the blob's name and its chunks; ``("", 0)`` is in the inbox itself.

    The device's name comes first: its rights are to what begins with it (``access/rules.py``).
    """
    if payload_bytes <= INLINE_BYTES:
        return "", 0
    return own_blob(worker, task.task_id, task.attempt), count_chunks(payload_bytes)
