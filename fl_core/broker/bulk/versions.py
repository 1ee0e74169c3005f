"""Published versions: bytes first, then the pointer, so that a reader never sees half a model.

The pointer says where the bytes are (``places.py``): a version on a server that forgets can be published again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from fl_core.broker import rows
from fl_core.broker.bulk import blobs, chunks
from fl_core.broker.bulk.constants import Constants
from fl_core.broker.bulk.head import HEAD_FIELDS, Head
from fl_core.broker.bulk.places import Places, read_place
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.keys import CampaignKeys
from fl_core.errors import MissingBlob, UntrustedError
from fl_core.wire.digest import Bytes, Namer, digest, has_digest
from fl_core.wire.signed import order_digest

if TYPE_CHECKING:
    from fl_core.broker.bulk.trust import Trust


@dataclass(frozen=True, slots=True)
class Kept:
    """A version whose bytes were written and not dropped yet."""

    version: int
    num_bytes: int
    place: str

    @classmethod
    def from_row(cls, version: bytes, row: bytes) -> Self:
        """As ``publish_commands`` writes it.

        Raises:
            BadRow: it did not.
        """
        num_bytes, place = rows.parts(row, 2)
        return cls(rows.number(version), rows.number(num_bytes, rows.MAX_BLOB_BYTES), read_place(place))


def write_version(
    places: Places,
    keys: CampaignKeys,
    version: int,
    payload: Bytes,
    *,
    place: str = "",
    updates: str = "",
    codec: str = "fp32",
    name: Namer = digest,
) -> Head:
    """Write a version's bytes; nobody sees them until the pointer moves.

    Args:
        place: the server that gets them.
        updates: the server that the payloads of large updates shall go to.
        codec: how the payload was encoded.
        name: of the two digests the one that tells it from others.

    Raises:
        BrokerUnavailable: write it again, perhaps elsewhere.
    """
    num_chunks = blobs.put(places.at(place), keys.version(version), payload)
    return Head(version, name(payload), len(payload), num_chunks, place=place, updates=updates, codec=codec)


def publish_commands(keys: CampaignKeys, head: Head) -> list[list[str | bytes]]:
    """The Redis commands that move the pointer; the coordinator sends them under its fence."""
    fields: list[str | bytes] = ["HSET", keys.head, "version", str(head.version), "digest", head.digest]
    fields += ["num_bytes", str(head.num_bytes), "num_chunks", str(head.num_chunks)]
    fields += ["place", head.place, "updates", head.updates, "codec", head.codec]
    return [fields, ["HSET", keys.versions, str(head.version), f"{head.num_bytes}|{head.place}"]]


def order_commands(keys: CampaignKeys, packed: bytes) -> list[list[str | bytes]]:
    """The Redis commands that write an order as it travels, and its digest where claims find it."""
    return [["SET", keys.order, packed], ["HSET", keys.head, "order", order_digest(packed)]]


def read_order(places: Places, keys: CampaignKeys) -> bytes:
    """The order as it travels; empty where there is none.

    Raises:
        BrokerUnavailable: unknown.
    """
    with broker_errors("reading the order"):
        return bytes(places.at("").getrange(keys.order, 0, rows.MAX_STRING_BYTES))


def seal_commands(keys: CampaignKeys, sealed: bytes) -> list[list[str | bytes]]:
    """The Redis commands that put the signed pointer beside the plain one."""
    return [["HSET", keys.head, "sealed", sealed]]


def is_shown(
    client: Client,
    keys: CampaignKeys,
    head: Head,
    packed: bytes | None,
    constants: Constants | None = None,
    sealed: bytes = b"",
) -> bool:
    """Whether pointer and order at the broker are those that were written: somebody else may have changed them.

    Args:
        packed: the order as it travels; None where it is not known.
        sealed: the signed pointer; empty where it is not signed, or not known.

    Raises:
        BrokerUnavailable: it does not answer.
    """
    words = publish_commands(keys, head)[0]
    wanted = dict(zip(words[2::2], words[3::2], strict=True))
    if constants is not None:
        _, _, field, row = constants.command(keys)
        wanted[field] = row
    if packed is not None:
        wanted["order"] = order_digest(packed)
    if sealed:
        wanted["sealed"] = sealed
    with broker_errors("looking at the pointer"), client.pipeline(transaction=False) as pipeline:
        pipeline.hmget(keys.head, list(wanted))
        pipeline.get(keys.order)
        found, found_order = pipeline.execute()
    said = [value if isinstance(value, bytes) else str(value).encode() for value in wanted.values()]
    return found == said and packed in (None, found_order)


def is_whole(places: Places, keys: CampaignKeys, head: Head) -> bool:
    """Whether all chunks of a version are where its pointer says.

    Raises:
        BrokerUnavailable: that server does not answer.
    """
    with broker_errors("looking for a version's bytes"):
        names = chunks.chunk_keys(keys.version(head.version), head.num_bytes)
        return bool(places.at(head.place).exists(*names) == len(names))


def drop_commands(keys: CampaignKeys, kept: Kept) -> list[list[str | bytes]]:
    """The Redis commands that drop a version at the broker: its bytes where they are there, and its mention."""
    bytes_here = [] if kept.place else blobs.unlink_commands((keys.version(kept.version), kept.num_bytes))
    return [*bytes_here, ["HDEL", keys.versions, str(kept.version)]]


def drop_elsewhere(places: Places, keys: CampaignKeys, kept: Kept) -> None:
    """Drop a version's bytes that are not at the broker.

    Raises:
        BrokerUnavailable: they may still be there.
    """
    if kept.place:
        blobs.delete(places.at(kept.place), (keys.version(kept.version), kept.num_bytes))


def known(client: Client, keys: CampaignKeys) -> set[int]:
    """All versions whose bytes are mentioned.

    Raises:
        BrokerUnavailable: unknown.
    """
    with broker_errors("reading the kept versions"):
        return {int(version) for version in client.hkeys(keys.versions) if version.isdigit()}


def droppable(client: Client, keys: CampaignKeys, kept: int) -> list[Kept]:
    """Versions that no worker is fetching, but for the newest ``kept``.

    Raises:
        BrokerUnavailable: unknown.
    """
    if rows.too_large(client, [keys.versions, keys.pins]):
        return []
    with broker_errors("reading the kept versions"):
        found = client.hgetall(keys.versions)
        # After the versions: who begins to fetch meanwhile fetches the newest. Page by page, as there may be many.
        pins = [version for _, version in client.hscan_iter(keys.pins, count=1000)]
    pinned = set(rows.good(keys.pins, pins, rows.number))
    versions = rows.good(keys.versions, found.items(), lambda item: Kept.from_row(*item))
    versions.sort(key=lambda one: one.version)
    return [one for one in versions[: -kept or None] if one.version not in pinned]


def read_head(client: Client, keys: CampaignKeys) -> Head | None:
    """The newest version's pointer; None before the first is published, or where it cannot be read.

    Raises:
        BrokerUnavailable: unknown.
    """
    with broker_errors("reading the head"):
        values = client.hmget(keys.head, HEAD_FIELDS)
    if values[0] is None:
        return None
    found = rows.good(keys.head, [values], Head.from_row)
    return found[0] if found else None


def read_version(places: Places, keys: CampaignKeys, head: Head) -> memoryview | None:
    """The bytes of one version; None where they have been dropped.

    Raises:
        BrokerUnavailable: ask again.
    """
    try:
        payload = blobs.get(places.at(head.place), keys.version(head.version), head.num_bytes)
    except MissingBlob:
        return None
    return payload if has_digest(payload, head.digest) else None


def read_newest(
    places: Places, keys: CampaignKeys, *, attempts: int = 20, trust: Trust | None = None
) -> tuple[Head, memoryview]:
    """The newest version and its bytes. A version that is dropped meanwhile is followed by a newer one.

    Args:
        trust: holds the pointer against its coordinator's signature; None believes it.

    Raises:
        MissingBlob: there is none, it kept moving away, or the pointer is not what a coordinator has signed.
        BrokerUnavailable: ask again.
    """
    for _ in range(attempts):
        head = read_head(places.at(""), keys)
        if head is None:
            break
        if trust is not None:
            try:
                head = trust.head(keys.campaign, head)
            except UntrustedError as error:
                raise MissingBlob(str(error)) from None  # its coordinator looks after the pointer
        if (payload := read_version(places, keys, head)) is not None:
            return head, payload
    raise MissingBlob(f"campaign {keys.campaign} has no complete version")
