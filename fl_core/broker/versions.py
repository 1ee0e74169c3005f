"""Published versions: bytes first, then the pointer, so that a reader never sees half a model."""

from __future__ import annotations

from fl_core.broker import blobs
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.tasks import Head


def write_version(client: Client, keys: CampaignKeys, version: int, payload: blobs.Bytes) -> Head:
    """Write a version's bytes; nobody sees them until the pointer moves.

    Raises:
        BrokerUnavailable: write it again.
    """
    num_chunks = blobs.put(client, keys.version(version), payload)
    return Head(version, blobs.digest(payload), len(payload), num_chunks)


def publish_commands(keys: CampaignKeys, head: Head) -> list[list[str | bytes]]:
    """The Redis commands that move the pointer; the coordinator sends them under its fence."""
    fields: list[str | bytes] = ["HSET", keys.head, "version", str(head.version), "digest", head.digest]
    return [
        [*fields, "num_bytes", str(head.num_bytes), "num_chunks", str(head.num_chunks)],
        ["HSET", keys.versions, str(head.version), str(head.num_bytes)],
    ]


def drop_commands(keys: CampaignKeys, version: int, num_bytes: int) -> list[list[str | bytes]]:
    """The Redis commands that drop a version's bytes."""
    return [*blobs.unlink_commands(keys.version(version), num_bytes), ["HDEL", keys.versions, str(version)]]


def droppable(client: Client, keys: CampaignKeys, kept: int) -> list[tuple[int, int]]:
    """Versions (with their sizes) that no worker is fetching, but for the newest ``kept``.

    Raises:
        BrokerUnavailable: unknown.
    """
    with broker_errors("reading the kept versions"), client.pipeline(transaction=True) as pipeline:
        pipeline.hgetall(keys.versions)
        pipeline.hvals(keys.pins)
        sizes, pins = pipeline.execute()
    pinned = {int(version) for version in pins}
    versions = sorted((int(version), int(size)) for version, size in sizes.items())
    return [(version, size) for version, size in versions[: -kept or None] if version not in pinned]


def read_head(client: Client, keys: CampaignKeys) -> Head | None:
    """The newest version's pointer; None before the first is published.

    Raises:
        BrokerUnavailable: unknown.
    """
    with broker_errors("reading the head"):
        version, digest, num_bytes, num_chunks = client.hmget(
            keys.head, ["version", "digest", "num_bytes", "num_chunks"]
        )
    if version is None:
        return None
    return Head(int(version), digest.decode(), int(num_bytes), int(num_chunks))


def read_newest(client: Client, keys: CampaignKeys, *, attempts: int = 20) -> tuple[Head, memoryview]:
    """The newest version and its bytes. A version that is dropped meanwhile is followed by a newer one.

    Raises:
        MissingBlob: there is none, or it kept moving away.
        BrokerUnavailable: ask again.
    """
    for _ in range(attempts):
        head = read_head(client, keys)
        if head is None:
            break
        try:
            payload = blobs.get(client, keys.version(head.version), head.num_bytes)
        except blobs.MissingBlob:
            continue
        if blobs.digest(payload) == head.digest:
            return head, payload
    raise blobs.MissingBlob(f"campaign {keys.campaign} has no complete version")
