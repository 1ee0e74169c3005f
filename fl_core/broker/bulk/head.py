"""The pointer to a campaign's newest version, as devices get it with a claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from fl_core.broker import rows
from fl_core.broker.bulk.patches import Patch
from fl_core.broker.bulk.places import read_place

HEAD_FIELDS = ("version", "digest", "num_bytes", "num_chunks", "place", "updates", "codec")


@dataclass(frozen=True, slots=True)
class Head:
    """The newest published version.

    Attributes:
        digest: xxh3-128 of its bytes, hex.
        inline: the bytes themselves, when they came with the answer.
        place: the server that has them (``places.py``); empty is the broker.
        updates: the server that takes the payloads of large updates.
        codec: how its bytes are to be read (``fl_core/codecs``).
        patches: they lead from the version that the worker holds to this one, in order, and are fewer bytes; empty
            where there are none.
    """

    version: int
    digest: str
    num_bytes: int
    num_chunks: int
    inline: bytes | None = None
    place: str = ""
    updates: str = ""
    codec: str = "fp32"
    patches: tuple[Patch, ...] = ()

    @classmethod
    def from_row(cls, values: Sequence[bytes | None]) -> Self:
        """From the values of ``HEAD_FIELDS``.

        Raises:
            BadRow: they are no version's.
        """
        version, digest, num_bytes, num_chunks, place, updates, codec = values
        return cls(
            rows.number(version),
            rows.name(digest),
            rows.number(num_bytes, rows.MAX_BLOB_BYTES),
            rows.number(num_chunks),
            place=read_place(place or b""),
            updates=read_place(updates or b""),
            codec=rows.name(codec or b"fp32"),
        )
