"""The broker's own health: memory, clients, and the lengths of a campaign's streams. Read-only, a fixed cost."""

from __future__ import annotations

from dataclasses import dataclass

from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.keys import CampaignKeys
from fl_core.program.plain_text import shown


@dataclass(frozen=True, slots=True)
class Health:
    """The server's own word.

    Attributes:
        memory_bytes: what its data and buffers take.
        max_memory_bytes: its limit, 0 for none.
        clients: connections.
    """

    version: str
    uptime_seconds: int
    memory_bytes: int
    max_memory_bytes: int
    clients: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Entries in a campaign's update log, quarantine and inbox."""

    log: int
    parked: int
    inbox: int


def read_health(client: Client) -> Health:
    """Ask the server how it is.

    Raises:
        BrokerUnavailable: it does not say.
    """
    with broker_errors("asking the broker how it is"):
        info = client.info("everything")
    return Health(
        version=shown(info.get("valkey_version") or info.get("redis_version", ""), 40),
        uptime_seconds=_count(info.get("uptime_in_seconds")),
        memory_bytes=_count(info.get("used_memory")),
        max_memory_bytes=_count(info.get("maxmemory")),
        clients=_count(info.get("connected_clients")),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def read_lengths(client: Client, campaigns: list[str]) -> dict[str, Lengths]:
    """How much waits for some campaigns' coordinators, in one round trip.

    Raises:
        BrokerUnavailable: unknown.
    """
    with broker_errors("measuring the logs"), client.pipeline(transaction=False) as pipeline:
        for campaign in campaigns:
            keys = CampaignKeys(campaign)
            pipeline.xlen(keys.log)
            pipeline.xlen(keys.parked)
            pipeline.llen(keys.inbox)
        answers = pipeline.execute(raise_on_error=False)
    return {
        campaign: Lengths(*map(_count, answers[3 * index : 3 * index + 3])) for index, campaign in enumerate(campaigns)
    }
