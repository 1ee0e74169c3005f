"""Takes a campaign's unanswered doorbells off the queues."""

from __future__ import annotations

from collections.abc import Iterable

from fl_core.broker import keys
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.doorbell.message import is_of

_PAGE = 5_000


def remove_doorbells(client: Client, campaign: str, queues: Iterable[str], limit: int) -> None:
    """Take this campaign's unanswered doorbells off the queues; workers would find them void, but queues look long.

    Args:
        queues: where they may be.
        limit: how many messages of each queue to look at.
    """
    with broker_errors("tidying the queues"):
        for queue in queues:
            _remove(client, campaign, keys.train_queue(queue), limit)


def _remove(client: Client, campaign: str, name: str, limit: int) -> None:
    """From the oldest on, a page at a time: each is then found where the server begins to look."""
    left = 0  # of others
    for _ in range(0, limit, _PAGE):
        page = client.lrange(name, -left - _PAGE, -left - 1)
        ours = [message for message in reversed(page) if is_of(campaign, message)]
        with client.pipeline(transaction=False) as pipeline:
            for message in ours:
                pipeline.lrem(name, -1, message)
            pipeline.execute()
        left += len(page) - len(ours)
        if len(page) < _PAGE:
            return
