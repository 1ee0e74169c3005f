"""Keys that are ours by name and hold something else: found by type and weight, and dropped."""

from __future__ import annotations

from collections.abc import Iterable

from fl_core.broker import keys as broker_keys
from fl_core.broker import rows, scripts
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.scripts import Script


def drop_strangers(client: Client, keys: CampaignKeys, queues: Iterable[str]) -> list[str]:
    """Drop keys that are ours by name and that somebody has made into something that no program of ours can use:
    of another type, with more in it than is ever read, or a stream whose next entry could have no place any more.

    Args:
        keys, queues: the campaign's.

    Returns:
        The names of those that were dropped.

    Raises:
        BrokerUnavailable: unknown.
    """
    stream_end = Script(client, scripts.STREAM_END)
    types = keys.types() | broker_keys.SHARED_TYPES
    for queue in queues:
        types |= {broker_keys.train_queue(queue): "list", broker_keys.live(queue): "zset"}
    with broker_errors("looking at the keys' types"), client.pipeline(transaction=False) as pipeline:
        for key in types:
            pipeline.type(key)
        found = dict(zip(types, pipeline.execute(), strict=True))
        strange = [key for key, kind in types.items() if found[key].decode() not in ("none", kind)]
        # Streams are read past what is too long, and a queue item by item.
        whole = [key for key, kind in types.items() if kind not in ("stream", "list") and key not in strange]
        for key in whole:
            pipeline.memory_usage(key, samples=0)
        weights = zip(whole, pipeline.execute(raise_on_error=False), strict=True)
        strange += [key for key, weight in weights if isinstance(weight, int) and weight > rows.MAX_KEY_BYTES]
    with broker_errors("looking at the streams"):
        for key in (key for key, kind in types.items() if kind == "stream" and found[key] == b"stream"):
            last = stream_end([key], [])
            strange += [] if rows.good(key, [last], rows.position) else [key]
        if strange:
            client.unlink(*strange)
    return strange
