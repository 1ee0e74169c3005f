"""The reads behind `fedtide queues` and `fedtide workers`: read-only, and bounded in number."""

from __future__ import annotations

import time
from typing import Any

from coordinator.monitor.members import identity_row, read_published
from fl_core.broker.connection import connect
from fl_core.broker.overview.queues import Queues
from fl_core.broker.overview.roster import Roster

SAMPLE_SECONDS = 1.0


def look_at_workers(broker: str, authority: bytes = b"") -> list[dict[str, Any]]:
    """One row per registered worker, the most recently seen first.

    Args:
        authority: the certificate of the authority that whoever asks belongs to, DER; empty for none.

    Raises:
        BrokerUnavailable: nothing is known.
    """
    client = connect(broker, timeout_seconds=5)
    members = read_published(client, authority)
    return [
        {
            "worker": seen.beat.worker,
            "alive": seen.is_alive,
            "state": seen.state,
            "holding": seen.beat.holding,
            "silent_seconds": round(seen.silent_seconds, 1),
            "queues": list(seen.beat.queues),
            "done": seen.beat.num_done,
            "failed": seen.beat.num_failed,
            "trouble": seen.beat.trouble,
            "bytes_up": seen.beat.bytes_up,
            "bytes_down": seen.beat.bytes_down,
            "threads": seen.beat.threads,
            "device": seen.beat.device,
            "host": seen.beat.host,
            "pid": seen.beat.pid,
            **identity_row(members, seen.beat.worker),
        }
        for seen in Roster(client).present()
    ]


def look_at_queues(broker: str) -> list[dict[str, Any]]:
    """One row per queue; rates are measured over one second, waits are those of the last hundred or more claims.

    Raises:
        BrokerUnavailable: nothing is known.
    """
    client = connect(broker, timeout_seconds=5)
    first, started = {queue.name: queue for queue in Queues(client).read()}, time.monotonic()
    time.sleep(SAMPLE_SECONDS)
    second, seconds = Queues(client).read(), time.monotonic() - started
    live = Roster(client).count_live([queue.name for queue in second])
    busy: dict[str, int] = {}
    for row in look_at_workers(broker):
        for queue in row["queues"] if row["alive"] else ():
            busy[queue] = busy.get(queue, 0) + bool(row["holding"])
    rows = []
    for queue in second:
        before = first.get(queue.name, queue)
        rows.append(
            {
                "queue": queue.name,
                "depth": queue.depth,
                "oldest_seconds": round(queue.oldest_seconds, 1),
                "in_flight": busy.get(queue.name, 0),
                "workers": live[queue.name],
                "arrivals_per_second": round((queue.published - before.published) / seconds, 2),
                "departures_per_second": round((queue.claimed - before.claimed) / seconds, 2),
                "wait_p50_seconds": queue.wait_quantile(0.5),
                "wait_p95_seconds": queue.wait_quantile(0.95),
            }
        )
    return rows
