"""Updates' payloads on their way from a device; what a line that failed has taken is not sent twice."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fl_core.broker.bulk import blobs
from fl_core.broker.bulk.places import Places
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.line.slow_lines import Transfer
from fl_core.errors import BrokerError
from fl_core.wire.messages import ModelUpdate

# A blob that no log entry names yet ends by itself, should its writer die half-way.
UNCLAIMED_BLOB_SECONDS = 3600
# On a server that may forget anyhow, every payload ends by itself: a coordinator that is away for longer has the tasks
# done again.
VOLATILE_BLOB_SECONDS = 6 * 3600


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A payload that is on its way.

    Attributes:
        update: as it was given.
        named: the same with the name that its payload has at the place.
        place: where it goes; empty is the broker.
    """

    update: ModelUpdate
    named: ModelUpdate
    place: str
    transfer: Transfer


class Uploads:
    """One process's; it sends one payload at a time.

    Args:
        places: where bytes may lie.
        new_transfer: makes the account of a transfer of so many bytes.
    """

    def __init__(self, places: Places, new_transfer: Callable[[int], Transfer]) -> None:
        self._places = places
        self._new_transfer = new_transfer
        self._leaving: _Leaving | None = None

    def put(
        self, update: ModelUpdate, payload: bytes | memoryview, wanted_at: Callable[[], str], begun_before: bool
    ) -> tuple[ModelUpdate, str]:
        """Write a payload to the server that the coordinator wants it on, or to the broker while that is away.

        Args:
            wanted_at: asks for that server's place.
            begun_before: an earlier life of this worker may have sent a part of it; it is not sent again.

        Returns:
            The update with its payload's name there, and the place.

        Raises:
            BrokerUnavailable: it has not arrived; put it again.
        """
        keys = CampaignKeys(update.campaign)
        if self._leaving is None or self._leaving.update != update:
            self._leaving = self._begin(keys, update, payload, wanted_at(), begun_before)
        leaving, before = self._leaving, self._leaving.transfer.done
        expire = VOLATILE_BLOB_SECONDS if leaving.place else UNCLAIMED_BLOB_SECONDS
        try:
            server, name = self._places.at(leaving.place), keys.blob(leaving.named.blob)
            blobs.put(server, name, payload, expire_seconds=expire, transfer=leaving.transfer)
        except BrokerError:
            if not leaving.place or leaving.transfer.done > before:
                raise
            # That server takes nothing now: the broker does.
            self._leaving = _Leaving(update, update, "", self._new_transfer(update.payload_bytes))
            return self.put(update, payload, wanted_at, begun_before=False)
        return leaving.named, leaving.place

    def _begin(
        self, keys: CampaignKeys, update: ModelUpdate, payload: bytes | memoryview, place: str, begun_before: bool
    ) -> _Leaving:
        named = update
        if place:
            # A name of its own for every delivery: what the coordinator once found to be lost must not come back.
            named = replace(update, blob=f"{update.blob}.{secrets.token_hex(6)}")
        transfer = self._new_transfer(update.payload_bytes)
        if begun_before and not place:
            name = keys.blob(named.blob)
            transfer.done = blobs.arrived(self._places.at(place), name, payload, UNCLAIMED_BLOB_SECONDS)
            transfer.attempts = 1 if transfer.done else 0
        return _Leaving(update, named, place, transfer)

    @contextlib.contextmanager
    def named_once(self, place: str) -> Iterator[None]:
        """Around the naming of a payload: where it fails, it may have been done, and another try has another name."""
        try:
            yield
        except BaseException:
            if place:
                self.forget()
            raise

    def forget(self) -> None:
        """What was on its way is not any more: the next payload is begun from the start."""
        self._leaving = None

    def withdraw(self, update: ModelUpdate) -> None:
        """Drop what of an update's payload has arrived.

        Raises:
            BrokerUnavailable: it ends by itself.
        """
        left, self._leaving = self._leaving, None
        if left is not None and left.update == update:
            name = CampaignKeys(update.campaign).blob(left.named.blob)
            blobs.delete(self._places.at(left.place), (name, update.payload_bytes))
