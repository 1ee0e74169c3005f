"""The pointer to a campaign's newest version, as devices get it with a claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from fl_core.broker import rows
from fl_core.broker.bulk.patches import Patch
from fl_core.broker.bulk.places import read_place
from fl_core.wire.checks import is_count, is_digest, is_identifier, is_label, is_size
from fl_core.wire.record import Record, checked

HEAD_FIELDS = ("version", "digest", "num_bytes", "num_chunks", "place", "updates", "codec", "sealed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer(Record):
    """The newest version, as its coordinator has signed it; ``Head`` is what a device makes of it.

    Attributes:
        incarnation, fence: of the campaign's life, and of the coordinator in it. Both of these and the version lead
            forward alone: what is behind what a device has seen is an old pointer that somebody shows again.
        digest: BLAKE3 of the version's bytes, hex.
        place, updates: where they are, and where large updates go (``fl_core/broker/bulk/places.py``).
        order: BLAKE3 of the order as it travels, hex: an old order does not go with a new version.
        mac: by which the coordinator knows this version again, when an update says that it started from it.
    """

    max_bytes: ClassVar[int] = 4 * 1024

    campaign: str = checked(is_identifier)
    incarnation: str = checked(is_identifier)
    fence: int = checked(is_count)
    version_number: int = checked(is_count)
    digest: str = checked(is_digest)
    num_bytes: int = checked(is_size)
    codec: str = checked(is_identifier)
    place: str = checked(is_label)
    updates: str = checked(is_label)
    order: str = checked(is_digest)
    mac: str = checked(is_digest)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest published version.

    Attributes:
        digest: xxh3-128 of its bytes, hex; BLAKE3 where the campaign has an authority.
        inline: the bytes themselves, when they came with the answer.
        place: the server that has them (``places.py``); empty is the broker.
        updates: the server that takes the payloads of large updates.
        codec: how its bytes are to be read (``fl_core/codecs``).
        patches: they lead from the version that the worker holds to this one, in order, and are fewer bytes; empty
            where there are none.
        sealed: the same as its coordinator has signed it, a ``Pointer`` in a ``Signed``; empty where none has.
        incarnation, mac: as that says; empty where it was not looked at (``trust.py``).
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
    sealed: bytes = b""
    incarnation: str = ""
    mac: str = ""

    @classmethod
    def from_row(cls, values: Sequence[bytes | None]) -> Self:
        """From the values of ``HEAD_FIELDS``.

        Raises:
            BadRow: they are no version's.
        """
        version, digest, num_bytes, num_chunks, place, updates, codec, sealed = values
        return cls(
            rows.number(version),
            rows.name(digest),
            rows.number(num_bytes, rows.MAX_BLOB_BYTES),
            rows.number(num_chunks),
            place=read_place(place or b""),
            updates=read_place(updates or b""),
            codec=rows.name(codec or b"fp32"),
            sealed=sealed or b"",
        )
