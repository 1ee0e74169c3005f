"""Is this container doing its work? Exit code 0 if so; otherwise 1, with the reason in one line.

::

    python healthcheck.py               the broker answers
    python healthcheck.py worker        and the worker of this host has sent a heartbeat lately
    python healthcheck.py coordinator   and some campaign on this broker has a coordinator

It asks Redis two or three questions and loads neither torch nor celery, since it also runs on a quarter of a core.
The broker's address comes from ``FEDTIDE_BROKER`` and the worker's name from ``FEDTIDE_NAME``; without one, the name is
the host's and whatever the worker put behind it. With ``FEDTIDE_IDENTITY`` both are the identity's. Such a device
may not ask who has beaten: its worker is healthy while the broker lets it in.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import cast

import redis

from fl_core.broker.connection import DEFAULT_URL, connect
from fl_core.broker.keys import CAMPAIGNS, DEVICES, CampaignKeys
from fl_core.errors import FedtideError

FRESH_SECONDS = 30


def main(role: str) -> str | None:
    """The reason why this container is not healthy, or ``None``."""
    url, folder = os.environ.get("FEDTIDE_BROKER", ""), os.environ.get("FEDTIDE_IDENTITY", "")
    if folder:
        from fl_core.identity.folder import read_identity

        url = read_identity(Path(folder)).url(url)
    client = connect(url or DEFAULT_URL, timeout_seconds=5.0)
    client.ping()
    if role == "worker" and folder:
        return None
    if role == "worker":
        name = os.environ.get("FEDTIDE_NAME") or socket.gethostname()
        seconds, _ = client.time()
        fresh = cast(list[bytes], client.zrangebyscore(DEVICES, (seconds - FRESH_SECONDS) * 1000, "+inf"))
        if not any(worker.decode().startswith(name) for worker in fresh):
            return f"no worker {name} has been heard in the last {FRESH_SECONDS} s; {len(fresh)} others have"
    elif role == "coordinator":
        newest = cast(list[bytes], client.zrevrange(CAMPAIGNS, 0, 99))
        if not any(client.exists(CampaignKeys(campaign.decode()).writer) for campaign in newest):
            return f"none of {len(newest)} campaigns has a coordinator"
    elif role != "broker":
        return f"role {role!r} is not known; use broker, worker or coordinator"
    return None


if __name__ == "__main__":
    try:
        problem = main(sys.argv[1] if len(sys.argv) > 1 else "broker")
    except (redis.RedisError, OSError, FedtideError) as error:
        problem = f"the broker does not answer: {error}"
    sys.exit(problem)
