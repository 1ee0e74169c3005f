"""Leftovers of campaigns at a server: found by a scan of its keys, measured, and dropped if their campaign is over.

A campaign drops what it has published and received when it ends, and the rest of it expires a month later. Left behind
is what nobody knew of: bytes of a version whose coordinator died before it could point to them, and all of a campaign
whose coordinator never came back.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import redis

from fl_core.broker import keys as broker_keys
from fl_core.broker import rows, scripts
from fl_core.broker.bulk.places import Places
from fl_core.broker.campaign import ENDED, CampaignBroker
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.doorbell.removal import remove_doorbells
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.scripts import Script
from fl_core.errors import BrokerError

_KEY = re.compile(rb"fedtide:c:\{([^{}]{1,200})\}:(.+)", re.DOTALL)
_CHUNK = re.compile(rb"model:([0-9]{1,18}):[0-9]+")
_BULK = (b"model:", b"patch:", b"constants:", b"blob:", b"said:")
_PAGE = 500
MAX_DOORBELLS = 10_000


def sweep(client: Client, keys: CampaignKeys, known: Collection[int]) -> int:
    """Drop the bytes of versions that nobody knows of: their coordinator died before it could point to them.

    Args:
        client: a server that versions of the campaign are written to; nobody else may be publishing.
        known: versions that stay.

    Returns:
        How many keys there were.
    """
    return _drop_all(client, (key for key, chunk in _chunks(client, keys) if int(chunk[1]) not in known))


def drop_bulk(client: Client, keys: CampaignKeys) -> int:
    """Drop all versions, patches, constants and payloads of a campaign that is over."""
    return _drop_all(client, (key for key, rest in _scan(client, keys.campaign) if rest.startswith(_BULK)))


def _drop_all(client: Client, found: Iterable[bytes]) -> int:
    dropped = list(found)
    with broker_errors("dropping what was left behind"):
        for start in range(0, len(dropped), _PAGE):
            client.unlink(*dropped[start : start + _PAGE])
    return len(dropped)


def _chunks(client: Client, keys: CampaignKeys) -> Iterator[tuple[bytes, re.Match[bytes]]]:
    for key, rest in _scan(client, keys.campaign):
        if (chunk := _CHUNK.fullmatch(rest)) is not None:
            yield key, chunk


def _scan(client: Client, campaign: str) -> Iterator[tuple[bytes, bytes]]:
    """The campaign's keys, and of each what follows the campaign's name."""
    for name, key, rest in _scan_all(client, re.sub(r"([\[\]*?\\^])", r"\\\1", campaign)):
        if name == campaign:
            yield key, rest


def _scan_all(client: Client, pattern: str = "*") -> Iterator[tuple[str, bytes, bytes]]:
    with broker_errors("looking for what was left behind"):
        for key in client.scan_iter(match=f"{broker_keys.PREFIX}c:{{{pattern}}}:*", count=1000):
            if (match := _KEY.fullmatch(key)) is not None:
                with contextlib.suppress(UnicodeDecodeError):
                    yield match[1].decode(), key, match[2]


# -- of all campaigns ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Leftover:
    """What a campaign without a coordinator has at the servers.

    Attributes:
        why: ``ended``, or ``no coordinator``.
        state: what its status says; empty where there is none.
        num_bytes: of memory, as far as the servers tell.
        keys: by place (``places.py``).
    """

    campaign: str
    why: str
    state: str
    num_bytes: int = 0
    keys: dict[str, list[bytes]] = field(default_factory=dict)

    @property
    def num_keys(self) -> int:
        """At all servers."""
        return sum(map(len, self.keys.values()))


def find_leftovers(
    client: Client, places: Places, more_places: Iterable[str], wanted: Collection[str]
) -> list[Leftover]:
    """What can be dropped, by campaign; nothing of one that has a coordinator.

    Of a server for blobs, only what belongs to campaigns of this broker: another broker's campaigns may live there too.

    Args:
        places: of the broker.
        more_places: servers for blobs that pointers need not name.
        wanted: campaigns to look for; none looks for all.

    Raises:
        BrokerUnavailable: unknown.
    """
    found: dict[str, list[tuple[bytes, bytes]]] = {}
    for campaign, key, rest in _scan_all(client):
        if not wanted or campaign in wanted:
            found.setdefault(campaign, []).append((key, rest))
    leftovers: dict[str, Leftover] = {}
    others = set(more_places)
    for campaign, held in found.items():
        keys = CampaignKeys(campaign)
        with broker_errors("looking at a campaign"):
            incarnation, writer = client.mget([keys.incarnation, keys.writer])
            others |= {value.decode(errors="replace") for value in client.hmget(keys.head, "place", "updates") if value}
        if writer is not None:
            continue
        why = "ended" if incarnation == ENDED.encode() else "no coordinator"
        state = CampaignBroker(client, campaign).status().state
        leftovers[campaign] = Leftover(campaign, why, state, keys={"": [key for key, _ in held]})
    for place in sorted(others):
        with contextlib.suppress(BrokerError):
            for campaign, key, rest in _scan_all(places.at(place)):
                if (leftover := leftovers.get(campaign)) is not None and rest.startswith(_BULK):
                    leftover.keys.setdefault(place, []).append(key)
    for leftover in leftovers.values():
        leftover.num_bytes = sum(_memory(places.at(place), held) for place, held in leftover.keys.items())
    return sorted(leftovers.values(), key=lambda one: -one.num_bytes)


def drop_leftover(client: Client, places: Places, leftover: Leftover) -> bool:
    """Drop it; False when a coordinator has come meanwhile, which keeps what is left.

    Raises:
        BrokerUnavailable: a part may be dropped; look again.
    """
    keys, drop = CampaignKeys(leftover.campaign), Script(client, scripts.DROP_ORPHANED)
    for place, held in sorted(leftover.keys.items(), reverse=True):  # the broker's own last: they name the places
        for start in range(0, len(held), _PAGE):
            page = held[start : start + _PAGE]
            with broker_errors("dropping what was left behind"):
                if not drop(keys=[keys.writer, *([] if place else [key.decode() for key in page])], args=[]):
                    return False
                if place:
                    places.at(place).unlink(*page)
    with broker_errors("tidying the queues"):
        prefix = broker_keys.train_queue("")
        names = [
            rows.name(key)[len(prefix) :] for key in client.scan_iter(match=f"{prefix}*", count=1000, _type="list")
        ]
        if not client.exists(keys.incarnation):
            client.zrem(broker_keys.CAMPAIGNS, leftover.campaign)
    remove_doorbells(client, leftover.campaign, names, MAX_DOORBELLS)
    return True


def forget_expired(client: Client, older_than_ms: float, limit: int = 100) -> None:
    """Take campaigns off the list of which nothing is left: what they had has expired.

    Args:
        older_than_ms: look only at those that were launched before (server's clock).
        limit: look at the so many oldest.
    """
    with broker_errors("tidying the list of campaigns"):
        names = client.zrange(broker_keys.CAMPAIGNS, "-inf", f"({older_than_ms:.0f}", byscore=True, offset=0, num=limit)
        for name in names:
            with contextlib.suppress(UnicodeDecodeError):
                keys = CampaignKeys(name.decode())
                if not client.exists(keys.incarnation, keys.writer, keys.spec):
                    client.zrem(broker_keys.CAMPAIGNS, name)


def _memory(client: Client, held: list[bytes]) -> int:
    total = 0
    for start in range(0, len(held), _PAGE):
        try:
            with broker_errors("measuring what was left behind"), client.pipeline(transaction=False) as pipeline:
                for key in held[start : start + _PAGE]:
                    pipeline.memory_usage(key, samples=5)
                total += sum(size or 0 for size in pipeline.execute())
        except (BrokerError, redis.ResponseError):
            return total
    return total
