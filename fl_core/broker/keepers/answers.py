"""A keeper's answer on its way into a campaign's inbox, with the sum of masks that it brings."""

from __future__ import annotations

from collections.abc import Callable

from fl_core.broker.bulk import blobs
from fl_core.broker.bulk.chunks import chunk_keys, count_chunks
from fl_core.broker.bulk.uploads import UNCLAIMED_BLOB_SECONDS
from fl_core.broker.campaign import ENDED
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.inbox import INLINE_BYTES, packed
from fl_core.broker.keys import CampaignKeys


def place_of_sum(order: str, keeper: str, first_seed: int, num_bytes: int) -> tuple[str, int]:
    """Where a sum of that size travels: the blob's name and its chunks; ``("", 0)`` is in the entry itself.

    The keeper's name comes first: its rights are to what begins with it (``access/rules.py``).

    Args:
        order: the order's digest.
        first_seed: the lowest of those whose masks are in it.
    """
    if num_bytes <= INLINE_BYTES:
        return "", 0
    return f"{keeper}:sum-{order[:24]}.{first_seed}", count_chunks(num_bytes)


def deliver(client: Client, campaign: str, header: bytes, blob: str, payload: memoryview) -> bool:
    """Put an answer into a campaign's inbox; False where the campaign is over.

    The payload goes to the broker, never to a second server: what a replay needs must not be forgotten there.

    Args:
        header: the answer, signed.
        blob: the payload's name; empty where it rides in the entry.
        payload: empty for none.

    Raises:
        BrokerUnavailable: it may or may not have arrived; a second delivery does no harm.
    """
    keys = CampaignKeys(campaign)
    with broker_errors("answering the coordinator"):
        if client.getrange(keys.incarnation, 0, 100) in (b"", ENDED.encode()):
            return False
    if blob:
        blobs.put(client, keys.blob(blob), payload, expire_seconds=UNCLAIMED_BLOB_SECONDS)
    with broker_errors("answering the coordinator"), client.pipeline(transaction=True) as pipeline:
        for key in chunk_keys(keys.blob(blob), len(payload)) if blob else ():
            pipeline.persist(key)
        pipeline.rpush(keys.inbox, packed("k", header, b"" if blob else payload))
        pipeline.xadd(keys.bell, {"x": ""}, maxlen=1, approximate=False)
        pipeline.execute()
    return True


Deliver = Callable[[str, bytes, str, memoryview], bool]
"""``deliver`` with its client."""
