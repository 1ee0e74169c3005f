"""What a server says of its room, judged."""

from __future__ import annotations

from typing import Any

import pytest

from fl_core.broker.server.capacity import connections, eviction, memory

GB = 2**30
INFO: dict[str, Any] = {
    "maxmemory": 0, "used_memory": GB, "total_system_memory": 8 * GB, "maxmemory_policy": "noeviction",
    "maxclients": 10_000, "connected_clients": 10,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "need", "alone", "verdict"),
    [
        ({}, None, None, "ok"),
        ({}, 4 * GB, None, "ok"),
        ({}, 9 * GB, None, "fail"),
        ({"maxmemory": 4 * GB}, 5 * GB, None, "fail"),
        ({"maxmemory": 4 * GB}, 3 * GB + 1, None, "warning"),
        ({"maxmemory": 4 * GB}, 2 * GB, 3 * GB, "ok"),
        ({"maxmemory": 4 * GB}, 2 * GB, 3 * GB + 1, "warning"),
        ({"total_system_memory": 0}, 99 * GB, 99 * GB, "ok"),
    ],
)
def test_memory(change: dict[str, Any], need: int | None, alone: int | None, verdict: str) -> None:
    """Too little for the campaign fails; too little beside what is used, or without the second server, warns."""
    assert memory(INFO | change, need, alone).verdict == verdict


@pytest.mark.parametrize(
    ("policy", "limit", "verdict"),
    [("noeviction", GB, "ok"), ("allkeys-lru", 0, "ok"), ("allkeys-lru", GB, "fail"), ("volatile-ttl", GB, "fail")],
)
def test_eviction(policy: str, limit: int, verdict: str) -> None:
    """A server that forgets keys is dangerous where there is a limit to act on."""
    found = eviction(INFO | {"maxmemory_policy": policy, "maxmemory": limit})
    assert found.verdict == verdict
    assert policy in found.detail
    assert ("lease" in found.detail) == policy.startswith("volatile")


@pytest.mark.parametrize(("used", "verdict"), [(10, "ok"), (9_936, "ok"), (9_937, "warning")])
def test_connections(used: int, verdict: str) -> None:
    """Room for some thirty workers more."""
    assert connections(INFO | {"connected_clients": used}).verdict == verdict
