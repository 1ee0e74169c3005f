"""The payloads of large updates: where they are found, and what happens when one is lost with its server.

Payloads travel through the server for blobs where there is one, else through the broker. The former may forget: then
the entry of the log counts for nothing, and its task is issued again. That finding is written down at the broker
together with the re-issue, because a replay has to come to the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import structlog

from coordinator.campaign.effects import LostPayload
from coordinator.outgoing.transaction import Transaction
from coordinator.storage.spool import Spool
from fl_core.broker.bulk import blobs, versions
from fl_core.broker.bulk.places import Places
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.connection import Client
from fl_core.errors import BrokerError, CampaignError, MissingBlob, PayloadLost
from fl_core.wire.events import Reissued

log = structlog.get_logger()

WORTH_A_THREAD_BYTES = 2**20


class Payloads:
    """Reads payloads, wherever they are, and the next one while the present one is being merged.

    Two buffers take turns, so a payload is good until the next but one is fetched.

    Args:
        client, broker: the campaign's.
        spool: keeps what the server for blobs might lose.
        place: the server for blobs; empty for none.
    """

    def __init__(self, client: Client, broker: CampaignBroker, spool: Spool, place: str = "") -> None:
        self._client = client
        self._broker = broker
        self._spool = spool
        self._places = Places(client, [place])
        self._order = [place] if place else []
        self._told_spool = False
        self._lost_payloads: set[str] = set()
        self._to_record: dict[str, LostPayload] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="payloads")
        self._ahead: dict[tuple[str, int], Future[memoryview]] = {}
        self._buffers = [memoryview(b""), memoryview(b"")]

    def close(self) -> None:
        """End the thread that reads ahead."""
        self._thread.shutdown(cancel_futures=True)

    # -- reading ---------------------------------------------------------------------------------------------------

    def expect(self, *payloads: tuple[str, int] | None) -> None:
        """Begin to read what will be fetched next: two payloads (name, size) at most, in that order.

        Small ones are not worth a thread; what was expected before and is not any more is dropped.
        """
        wanted = [one for one in payloads if one is not None and one[1] >= WORTH_A_THREAD_BYTES]
        self._drop_ahead(set(self._ahead) - set(wanted))
        for one in wanted:
            if one not in self._ahead:
                self._ahead[one] = self._thread.submit(self._read, *one)

    def fetch(self, name: str, num_bytes: int) -> memoryview:
        """A payload whose size was bounded by the caller.

        Raises:
            PayloadLost: it was on a server that has forgotten it.
            MissingBlob: it never was on the broker.
            BrokerUnavailable: ask again.
        """
        if (future := self._ahead.pop((name, num_bytes), None)) is not None:
            return future.result()
        self._drop_ahead(set(self._ahead))  # it may need the buffer that was read ahead into
        return self._read(name, num_bytes)

    def _drop_ahead(self, payloads: set[tuple[str, int]]) -> None:
        futures = [self._ahead.pop(one) for one in payloads]
        wait([future for future in futures if not future.cancel()])

    def _read(self, name: str, num_bytes: int) -> memoryview:
        if name in self._lost_payloads:
            raise PayloadLost(name)
        into, key = self._buffer(num_bytes), self._broker.keys.blob(name)
        if self._order and self._spool.get(name, into):
            return into
        for place in self._order:
            try:
                blobs.get(self._places.at(place), key, num_bytes, into)
            except (MissingBlob, BrokerError) as error:
                log.debug("a payload is not there", place=place, reason=str(error))
                continue
            self._keep(name, into)
            return into
        try:
            return blobs.get(self._client, key, num_bytes, into)
        except MissingBlob:
            if self._order:
                raise PayloadLost(name) from None
            raise

    def _keep(self, name: str, payload: memoryview) -> None:
        try:
            self._spool.put(name, payload)
        except CampaignError as error:
            if not self._told_spool:
                self._told_spool = True
                log.error(
                    "updates are merged without a copy on disk: losing both servers costs them", reason=str(error)
                )

    def _buffer(self, num_bytes: int) -> memoryview:
        """The memory that was used the longest ago; allocated again only where it is too small or far too large."""
        older, newer = self._buffers
        if not num_bytes <= len(older) <= 2 * num_bytes:
            older = blobs.buffer(num_bytes)
        self._buffers = [newer, older]
        return older[:num_bytes]

    # -- losses ----------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Learn what an earlier coordinator knew.

        Raises:
            BrokerUnavailable: learn it later.
        """
        self._lost_payloads = self._broker.lost_payloads()
        self._to_record = {}
        head = versions.read_head(self._client, self._broker.keys)
        if head is not None and head.updates and head.updates not in self._order:
            self._order.append(head.updates)

    def keep_only(self, payloads: Iterable[tuple[str, int]]) -> None:
        """A checkpoint covers all but these: what an earlier coordinator kept of others may go."""
        self._spool.keep_only(name for name, _ in payloads)

    def note_lost(self, payload: LostPayload) -> None:
        """An open task was answered with a payload that is lost."""
        self._to_record[payload.blob] = payload

    def reissue_lost(self, transaction: Transaction) -> None:
        """Have the tasks whose payload was lost issued again."""
        if not self._to_record:
            return
        log.warning(
            "the server for blobs has forgotten updates; their tasks are done again", tasks=len(self._to_record)
        )
        transaction.add(self._broker.lost_commands(list(self._to_record)))
        for payload in self._to_record.values():
            task = payload.task
            transaction.append(
                Reissued(task=task.number, attempt=payload.attempt, queue=task.queue, reason="payload_lost")
            )
        self._lost_payloads |= self._to_record.keys()
        self._to_record = {}

    # -- dropping --------------------------------------------------------------------------------------------------

    def forget_all(self) -> None:
        """The campaign is over, or a checkpoint covers all of it."""
        self._spool.remove()

    def drop(self, payloads: Iterable[tuple[str, int]], transaction: Transaction) -> None:
        """Drop payloads by name and size, first in the transaction: a full server needs room before all else."""
        rows = list(payloads)
        transaction.add_in_front(self._broker.drop_payload_commands(rows))
        if not self._order:
            return
        self._spool.drop(name for name, _ in rows)
        for place in self._order:
            try:
                blobs.delete(self._places.at(place), *((self._broker.keys.blob(name), size) for name, size in rows))
            except BrokerError as error:
                log.debug("payloads were not dropped", place=place, reason=str(error))
