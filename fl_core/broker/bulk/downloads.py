"""Versions, constants and patches on their way to a device; what a line that failed brought is not brought twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fl_core.broker.bulk import blobs
from fl_core.broker.bulk.constants import read_constants
from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.patches import read_patch
from fl_core.broker.bulk.places import Places
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.line.slow_lines import Transfer
from fl_core.errors import MissingBlob
from fl_core.wire.digest import has_digest


class Downloads:
    """One process's.

    Args:
        places: where bytes lie.
        new_transfer: makes the account of a transfer of so many bytes.
    """

    def __init__(self, places: Places, new_transfer: Callable[[int], Transfer]) -> None:
        self._places = places
        self._new_transfer = new_transfer
        # Digest, memory, and how far it is filled.
        self._arriving: tuple[str, memoryview, Transfer] | None = None

    def version(self, keys: CampaignKeys, head: Head, into: memoryview | None) -> memoryview:
        """A version's bytes from its chunks, not yet checked; ``TaskBroker.fetch`` has the arguments and errors."""
        payload, transfer = self._room_for(head.digest, head.num_bytes, into)
        try:
            blobs.get(self._places.at(head.place), keys.version(head.version), head.num_bytes, payload, transfer)
        except MissingBlob:
            self._arriving = None
            raise
        self._arriving = None
        return payload

    def constants(self, keys: CampaignKeys, wanted: str, num_bytes: int) -> memoryview:
        """What no version carries, checked against its digest; ``TaskBroker.fetch_constants`` has the errors."""
        into, transfer = self._room_for(wanted, num_bytes, None)
        try:
            payload = read_constants(self._places, keys, wanted, into, transfer)
        except MissingBlob:
            self._arriving = None
            raise
        self._arriving = None
        return payload

    def patches(self, keys: CampaignKeys, head: Head) -> Iterator[memoryview]:
        """The patches of a claim, one after the other; ``TaskBroker.fetch_patches`` has the errors."""
        for patch in head.patches:
            yield read_patch(self._places, keys, patch, self._new_transfer(patch.num_bytes))

    def _room_for(self, wanted: str, num_bytes: int, into: memoryview | None) -> tuple[memoryview, Transfer]:
        """Memory for what comes down, and what is there already."""
        if self._arriving is None or self._arriving[0] != wanted or len(self._arriving[1]) != num_bytes:
            fits = into is not None and len(into) == num_bytes
            memory = into if into is not None and fits else blobs.buffer(num_bytes)
            self._arriving = wanted, memory, self._new_transfer(num_bytes)
        return self._arriving[1], self._arriving[2]


def verify(payload: memoryview | bytes, head: Head) -> None:
    """Hold a version's bytes against its digest.

    Raises:
        MissingBlob: they are not that version.
    """
    if not has_digest(payload, head.digest):
        raise MissingBlob(f"version {head.version} does not have its digest")
