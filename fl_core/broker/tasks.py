"""The device's side of a task at the broker: claim it, deliver its update, or report that there is none."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import redis

from fl_core.broker import keys, rows, scripts
from fl_core.broker.bulk import blobs
from fl_core.broker.bulk.constants import read_constants
from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.patches import Patch, read_patch
from fl_core.broker.bulk.places import Places, read_place
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.overview.records import is_attempt
from fl_core.broker.patience import Transfer
from fl_core.broker.scripts import Script
from fl_core.errors import BrokerError, MissingBlob, Reason, RejectedUpdate
from fl_core.wire.digest import digest
from fl_core.wire.messages import ModelUpdate, TaskCall, TaskReport, TrainOrder, TrainTask

# Up to here a payload rides in the log entry: one round trip, but copied by redis-py and by the script engine.
INLINE_BYTES = 64 * 1024


# A model of one chunk comes with the answer to the claim: one round trip instead of two.
INLINE_MODEL_BYTES = 256 * 1024


# A blob that no log entry names yet ends by itself, should its writer die half-way.
UNCLAIMED_BLOB_SECONDS = 3600


# On a server that may forget anyhow, every payload ends by itself: a coordinator that is away for longer has the tasks
# done again.
VOLATILE_BLOB_SECONDS = 6 * 3600


# The orders of so many campaigns are remembered; each may be as long as a record.
MAX_ORDERS = 8


# Told while a payload takes long: its way ("up" or "down"), the bytes that have moved, and all of them.
OnProgress = Callable[[Literal["up", "down"], int, int], None]


# Where updates go was told with the claim; a task that took longer asks again.
PLACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim. ``head`` and ``task`` are there if and only if ``verdict`` is ``"ok"``.

    Attributes:
        verdict: ``"gone"``: answered, superseded or cancelled meanwhile; ``"taken"``: another worker has it.
        queue_seconds: how long the task waited for a worker, by the server's clock alone.
        task: the task with its order.
    """

    verdict: Literal["ok", "gone", "taken"]
    queue_seconds: float = 0.0
    head: Head | None = None
    task: TrainTask | None = None


class TaskBroker:
    """What a worker does at the broker for the tasks of all campaigns. It is one process's own: not for sharing.

    Args:
        client: the broker's.
        worker: this worker's name.
        given: servers for versions and updates that the worker's owner has named (``places.py``).
        on_progress: told every five seconds while a payload is on its way.
        on_moved: called whenever bytes of one have moved; what it raises ends the transfer.
    """

    def __init__(
        self,
        client: Client,
        worker: str,
        given: Iterable[str] = (),
        on_progress: OnProgress | None = None,
        on_moved: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._on_progress = on_progress
        self._on_moved = on_moved
        self._places = Places(client, given)
        self._worker = worker
        self._told = ("", "", float("-inf"))
        self._orders: dict[str, tuple[str, TrainOrder]] = {}
        # What a line that failed has brought of a version, and taken of an update, for when it is back.
        self._arriving: tuple[str, memoryview, Transfer] | None = None
        self._leaving: tuple[ModelUpdate, ModelUpdate, str, Transfer] | None = None
        self._claim = Script(client, scripts.CLAIM)
        self._deliver = Script(client, scripts.DELIVER)
        self._report = Script(client, scripts.REPORT)
        self._moving = Script(client, scripts.MOVING)

    def claim(self, task: TaskCall | TrainTask, cached_digest: str) -> Claim:
        """Take a task and learn its order and the newest version, in one step.

        Args:
            task: as the doorbell brought it.
            cached_digest: of the version that this process still holds, or empty; its bytes are not sent again. A
                digest and not a number: a campaign restored from a checkpoint can reach a number twice.

        Raises:
            BrokerUnavailable: nothing is claimed, or it is and the same call says so again.
            RejectedUpdate: the order is none that this program can read (malformed).
        """
        campaign = keys.CampaignKeys(task.campaign)
        known = self._orders.get(task.campaign)
        with broker_errors("claiming a task"):
            answer = self._claim(
                keys=[
                    campaign.out,
                    campaign.owners,
                    campaign.head,
                    campaign.pins,
                    keys.QUEUE_COUNTS,
                    campaign.patches,
                    campaign.order,
                ],
                args=[
                    task.task_id,
                    task.attempt,
                    self._worker,
                    cached_digest,
                    campaign.model,
                    task.queue,
                    INLINE_MODEL_BYTES,
                    known[0] if known else "",
                ],
            )
            if not isinstance(answer, list) or not answer or answer[0] not in (b"ok", b"gone", b"taken"):
                raise redis.InvalidResponse("no answer to a claim")
        if answer[0] == b"taken":
            return Claim("taken")
        heads = rows.good(campaign.head, [answer[2:9]], Head.from_row) if answer[0] == b"ok" else []
        if not heads:
            return Claim("gone")
        order = self._remember(task.campaign, answer[9]) if answer[9] or known is None else known[1]
        inline = answer[10] or None if len(answer) > 10 else None
        patches = rows.good(campaign.patches, answer[11:], Patch.from_row)
        whole = len(patches) == len(answer) - 11
        head = replace(heads[0], inline=inline, patches=tuple(patches) if whole else ())
        self._told = (task.campaign, head.updates, time.monotonic())
        return Claim("ok", rows.number_or_zero(answer[1]) / 1000, head, TrainTask.of(task, order))

    def _remember(self, campaign: str, packed: bytes) -> TrainOrder:
        order = TrainOrder.from_bytes(packed)
        if order.campaign != campaign:
            raise RejectedUpdate(Reason.MALFORMED, f"the order of campaign {campaign} is for {order.campaign}")
        self._orders.pop(campaign, None)
        self._orders[campaign] = (digest(packed), order)
        while len(self._orders) > MAX_ORDERS:
            del self._orders[next(iter(self._orders))]
        return order

    def fetch(self, task: TrainTask, head: Head, into: memoryview | None = None) -> memoryview | bytes:
        """The bytes of the version that the claim named, checked against its digest.

        Args:
            into: memory that may be used where it has the right size; whatever comes of it, its content is lost.

        Raises:
            MissingBlob: that version is gone or damaged; claim again.
            BrokerUnavailable: the broker, or the server that has the version, is away; claim again.
        """
        campaign = keys.CampaignKeys(task.campaign)
        payload: memoryview | bytes
        if head.inline is not None:
            payload = head.inline
        else:
            payload, transfer = self._room_for(head.digest, head.num_bytes, into)
            place = self._places.at(head.place)
            try:
                blobs.get(place, campaign.version(head.version), head.num_bytes, payload, transfer)
            except MissingBlob:
                self._arriving = None
                raise
            self._arriving = None
            self._release(task)
        if digest(payload) != head.digest:
            raise MissingBlob(f"version {head.version} does not have its digest")
        return payload

    def fetch_constants(self, task: TrainTask, num_bytes: int) -> memoryview:
        """What no version of the task's campaign carries, checked against the digest that the order names.

        Raises:
            MissingBlob, BrokerUnavailable: not now; the coordinator may be about to write it again.
        """
        wanted, campaign = task.constants_digest, keys.CampaignKeys(task.campaign)
        into, transfer = self._room_for(wanted, num_bytes, None)
        try:
            payload = read_constants(self._places, campaign, wanted, into, transfer)
        except MissingBlob:
            self._arriving = None
            raise
        self._arriving = None
        return payload

    def _room_for(self, wanted: str, num_bytes: int, into: memoryview | None) -> tuple[memoryview, Transfer]:
        """Memory for what comes down, and what is there already: a line that failed does not bring it twice."""
        if self._arriving is None or self._arriving[0] != wanted or len(self._arriving[1]) != num_bytes:
            fits = into is not None and len(into) == num_bytes
            memory = into if into is not None and fits else blobs.buffer(num_bytes)
            self._arriving = wanted, memory, self._transfer("down", num_bytes)
        return self._arriving[1], self._arriving[2]

    def _transfer(self, way: Literal["up", "down"], num_bytes: int) -> Transfer:
        told = self._on_progress
        return Transfer(None if told is None else lambda done: told(way, done, num_bytes), self._on_moved)

    def fetch_patches(self, task: TrainTask, head: Head) -> Iterator[memoryview]:
        """The patches that the claim named, one after the other.

        Raises:
            MissingBlob, BrokerUnavailable: one cannot be had; fetch the version.
        """
        campaign = keys.CampaignKeys(task.campaign)
        for patch in head.patches:
            yield read_patch(self._places, campaign, patch, self._transfer("down", patch.num_bytes))
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
            value = self._client.hget(keys.CampaignKeys(task.campaign).out, task.task_id)
        return is_attempt(value, task.attempt)

    def say_moving(self, campaign: str, task_id: str, attempt: int) -> bool:
        """Say that a task's bytes move, so that its time does not run; False where nobody waits for them any more.

        Raises:
            BrokerUnavailable: unknown.
        """
        names = keys.CampaignKeys(campaign)
        with broker_errors("saying that bytes move"):
            return bool(self._moving(keys=[names.out, names.owners], args=[task_id, attempt, self._worker]))

    def deliver(self, update: ModelUpdate, payload: bytes | memoryview, *, begun_before: bool = False) -> bool:
        """Append an update to its campaign's log; False when the campaign has ended and takes nothing more.

        A second delivery of the same update does no harm: the coordinator counts one.

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
            update, place = self._put(update, payload, begun_before)
            chunks = blobs.chunk_keys(campaign.blob(update.blob), update.payload_bytes)
        header = update.to_bytes()
        if place:
            self._leaving = None  # once it may have been named in the log, it is not delivered by that name again
        with broker_errors("delivering an update"):
            try:
                position = self._deliver(
                    keys=[campaign.log, campaign.owners, campaign.out, campaign.pins, campaign.epoch],
                    args=[
                        update.task_id,
                        update.attempt,
                        self._worker,
                        header,
                        bytes(inline),
                        *([] if place else chunks),
                    ],
                )
            except redis.ResponseError as error:
                if "MISSINGCHUNK" in str(error):
                    self._leaving = None
                    raise RejectedUpdate(
                        Reason.MISSING_PAYLOAD, "a chunk expired before the update was complete"
                    ) from error
                raise
        self._leaving = None
        if position == b"over":
            with broker_errors("dropping an unwanted payload"):
                if chunks:
                    self._places.at(place).unlink(*chunks)
            return False
        return True

    def withdraw(self, update: ModelUpdate) -> None:
        """An update is not delivered after all: drop what of its payload has arrived.

        Raises:
            BrokerUnavailable: it ends by itself.
        """
        left, self._leaving = self._leaving, None
        if left is not None and left[0] == update:
            _, named, place, _ = left
            blobs.delete(
                self._places.at(place), (keys.CampaignKeys(update.campaign).blob(named.blob), update.payload_bytes)
            )

    def _put(
        self, update: ModelUpdate, payload: bytes | memoryview, begun_before: bool = False
    ) -> tuple[ModelUpdate, str]:
        """Write a payload to the server that the coordinator wants it on, or to the broker while that is away.

        Returns:
            The update with its payload's name there, and the place.
        """
        campaign = keys.CampaignKeys(update.campaign)
        if self._leaving is None or self._leaving[0] != update:
            place, named = self._updates_place(update.campaign), update
            if place:
                # A name of its own for every delivery: what the coordinator once found to be lost must not come back.
                named = replace(update, blob=f"{update.blob[:114]}.{secrets.token_hex(6)}")
            transfer = self._transfer("up", update.payload_bytes)
            if begun_before and not place:
                name = campaign.blob(named.blob)
                transfer.done = blobs.arrived(self._places.at(place), name, payload, UNCLAIMED_BLOB_SECONDS)
                transfer.attempts = 1 if transfer.done else 0
            self._leaving = update, named, place, transfer
        _, named, place, transfer = self._leaving
        expire, before = VOLATILE_BLOB_SECONDS if place else UNCLAIMED_BLOB_SECONDS, transfer.done
        try:
            server = self._places.at(place)
            blobs.put(server, campaign.blob(named.blob), payload, expire_seconds=expire, transfer=transfer)
        except BrokerError:
            if not place or transfer.done > before:
                raise
            # That server takes nothing now: the broker does.
            self._leaving = update, update, "", self._transfer("up", update.payload_bytes)
            return self._put(update, payload)
        return named, place

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
        with broker_errors("reporting a task"):
            position = self._report(
                keys=[campaign.log, campaign.owners, campaign.pins, campaign.epoch],
                args=[report.task_id, report.attempt, self._worker, report.to_bytes()],
            )
        return position is not None


def payload_place(task: TrainTask, worker: str, payload_bytes: int) -> tuple[str, int]:
    """Where a payload of that size travels: the blob's name and its chunks; ``("", 0)`` is in the log entry itself."""
    if payload_bytes <= INLINE_BYTES:
        return "", 0
    return f"{task.task_id}.{task.attempt}.{worker}"[:128], blobs.count_chunks(payload_bytes)
