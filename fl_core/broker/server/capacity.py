"""A server's room, and its behaviour when it is full: findings for ``fitness.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

from fl_core.trial.findings import Finding

Info = dict[str, Any]
"""The reply of INFO."""

FREE_CONNECTIONS = 64
"""Room for about thirty more workers: each holds two connections."""

EVICTION = "eviction"
"""The name of the finding that ``fedtide run --allow-eviction`` overrules."""


@dataclass(frozen=True, slots=True)
class Evicting:
    """A server that forgets keys when it is full.

    Attributes:
        policy: ``maxmemory-policy``.
        danger: what it would forget, as a clause.
        evicted_keys: how many it has forgotten since it was started.
    """

    policy: str
    danger: str
    evicted_keys: int


def eviction(info: Info) -> Finding:
    """Whether it forgets keys when it is full."""
    seen = _evicting(info)
    if seen is None:
        policy = str(info["maxmemory_policy"])
        return Finding(EVICTION, "ok", policy if int(info["maxmemory"]) else f"{policy}, and no maxmemory to act on")
    detail = f"{seen.policy} above {_size(int(info['maxmemory']))}: {seen.danger}"
    return Finding(EVICTION, "fail", detail, "set maxmemory-policy noeviction")


def _evicting(info: Info) -> Evicting | None:
    policy, limit = str(info["maxmemory_policy"]), int(info["maxmemory"])
    if policy == "noeviction" or not limit:
        return None
    what = "what has an expiry (the coordinator's lease, updates on their way)"
    what = what if policy.startswith("volatile-") else "updates, tasks and versions"
    return Evicting(policy, f"the server would forget {what} when it is full", int(info.get("evicted_keys", 0)))


def evicting(client: redis.Redis) -> Evicting | None:
    """Whether a server may evict keys as it is set now; None also where it does not let us see."""
    try:
        info = {**client.info("memory"), **client.info("stats")}
        return _evicting(info)
    except (redis.RedisError, OSError, KeyError, ValueError):
        return None


def memory(info: Info, need_bytes: int | None, need_alone_bytes: int | None = None) -> Finding:
    """Whether what a campaign needs there fits."""
    limit, used = int(info["maxmemory"]), int(info["used_memory"])
    machine = int(info.get("total_system_memory", 0))
    detail = f"{_size(used)} used, {f'maxmemory {_size(limit)}' if limit else 'no maxmemory'}"
    if need_bytes is None:
        return Finding("memory", "ok", detail)
    detail += f", the campaign needs up to {_size(need_bytes)}"
    less = "or lower dispatch.concurrency"
    if limit and limit < need_bytes:
        return Finding("memory", "fail", detail, f"raise maxmemory above {_size(need_bytes)}, {less}")
    if machine and machine < need_bytes:
        detail += f", its machine has {_size(machine)}"
        return Finding("memory", "fail", detail, f"use a larger machine, {less}")
    if limit and limit - used < need_bytes:
        return Finding("memory", "warning", detail, f"raise maxmemory above {_size(used + need_bytes)}, {less}")
    room = limit - used if limit else machine
    if room and need_alone_bytes is not None and room < need_alone_bytes:
        detail += f", and up to {_size(need_alone_bytes)} while the server for blobs is away"
        return Finding("memory", "warning", detail, f"give it that much, {less}; else devices wait meanwhile")
    return Finding("memory", "ok", detail)


def connections(info: Info) -> Finding:
    """Whether more workers can connect."""
    limit, used = int(info["maxclients"]), int(info["connected_clients"])
    detail = f"{used} of {limit}"
    if limit - used < FREE_CONNECTIONS:
        return Finding("connections", "warning", detail, "raise maxclients; a worker holds two connections")
    return Finding("connections", "ok", detail)


def _size(num_bytes: int) -> str:
    size = float(num_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
