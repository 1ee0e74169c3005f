"""A campaign's constants: frozen weights and buffers that never change, written once and fetched by who needs them.

No version carries them. A device builds its model from the campaign's factory and seed, so nearly always it has them
already, which their digest in the order shows. One that has others, for instance from a library of another release,
fetches them once. They lie under their digest, and ``head`` says where: digest, bytes and place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from fl_core.broker import rows
from fl_core.broker.bulk import blobs, chunks
from fl_core.broker.bulk.places import Places, read_place
from fl_core.broker.connection import broker_errors
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.line.slow_lines import Transfer
from fl_core.errors import MissingBlob
from fl_core.wire.digest import Bytes, Namer, digest, has_digest

FIELD = "constants"


@dataclass(frozen=True, slots=True)
class Constants:
    """Where a campaign's constants lie.

    Attributes:
        digest: xxh3-128 of the bytes, hex; BLAKE3 where the campaign has an authority.
        place: the server that has them (``places.py``); empty is the broker.
    """

    digest: str
    num_bytes: int
    place: str

    def command(self, keys: CampaignKeys) -> list[str | bytes]:
        """The Redis command that says so; the coordinator sends it under its fence."""
        return ["HSET", keys.head, FIELD, f"{self.digest}|{self.num_bytes}|{self.place}"]

    @classmethod
    def from_row(cls, row: bytes) -> Self:
        """As ``command`` writes it.

        Raises:
            BadRow: it did not.
        """
        name, num_bytes, place = rows.parts(row, 3)
        return cls(rows.name(name), rows.number(num_bytes, rows.MAX_BLOB_BYTES), read_place(place))


def write_constants(places: Places, keys: CampaignKeys, payload: Bytes, place: str, name: Namer = digest) -> Constants:
    """Write the bytes; nobody sees them until ``Constants.command`` is sent.

    Args:
        name: of the two digests the one that names them.

    Raises:
        BrokerUnavailable: write them again, perhaps elsewhere.
    """
    written = Constants(name(payload), len(payload), place)
    blobs.put(places.at(place), keys.constants(written.digest), payload)
    return written


def are_whole(places: Places, keys: CampaignKeys, written: Constants) -> bool:
    """Whether all chunks are still there.

    Raises:
        BrokerUnavailable: that server does not answer.
    """
    with broker_errors("looking for the constants' bytes"):
        names = chunks.chunk_keys(keys.constants(written.digest), written.num_bytes)
        return bool(places.at(written.place).exists(*names) == len(names))


def read_constants(
    places: Places, keys: CampaignKeys, wanted: str, into: memoryview, transfer: Transfer | None = None
) -> memoryview:
    """The bytes of a campaign's constants, checked.

    Args:
        wanted: their digest.
        into: memory of their size, by the model's layout; its content is lost in any case.
        transfer: how far earlier attempts to read them into the same memory got.

    Returns:
        ``into``.

    Raises:
        MissingBlob: others are there, or none; the coordinator may be about to write them again.
        BrokerUnavailable: the server that has them is away.
    """
    with broker_errors("looking for the constants"):
        row = places.at("").hget(keys.head, FIELD)
    found = rows.good(keys.head, [row or b""], Constants.from_row)
    if not found or (found[0].digest, found[0].num_bytes) != (wanted, len(into)):
        raise MissingBlob(keys.constants(wanted))
    payload = blobs.get(places.at(found[0].place), keys.constants(wanted), len(into), into, transfer)
    if not has_digest(payload, wanted):
        raise MissingBlob(f"the constants of campaign {keys.campaign} do not have their digest")
    return payload


def shown_digest(places: Places, keys: CampaignKeys) -> str:
    """The digest that ``head`` names; empty where the model has no constants, or they are not written yet.

    Raises:
        BrokerUnavailable: unknown.
    """
    with broker_errors("looking for the constants"):
        row = places.at("").hget(keys.head, FIELD)
    found = rows.good(keys.head, [row], Constants.from_row) if row else []
    return found[0].digest if found else ""
