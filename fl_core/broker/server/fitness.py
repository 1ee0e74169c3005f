"""Is this Redis fit to carry a campaign? Looked at from outside, with read-only commands of bounded cost.

Every check gives one :class:`Finding`; none writes, and none lists keys. A server may forbid ``INFO``, ``CONFIG`` or
``TIME`` to this user: then the finding is a warning that says so, since not knowing is no proof of a fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import redis

from fl_core.broker.server.answering import clock, latency, not_permitted, reachable, unreachable
from fl_core.broker.server.binary import MINIMUM_VERSION
from fl_core.broker.server.capacity import EVICTION, Info, connections, eviction, memory
from fl_core.trial.findings import Finding

BLOBS_REACHABLE = "blobs reachable"
"""The name of a finding that is a reason to wait and not to refuse: campaigns do without the server for blobs."""


def check_broker(
    client: redis.Redis,
    need_bytes: int | None = None,
    need_alone_bytes: int | None = None,
    *,
    read_settings: bool = True,
) -> list[Finding]:
    """Look at a server; whatever it answers becomes a finding and not an exception.

    Args:
        client: connected as the user that the programs will use.
        need_bytes: what the campaign needs there at most, in bytes; less memory fails. ``None`` leaves the comparison
            out.
        need_alone_bytes: what it needs while the server for blobs is away; less memory is a warning.
        read_settings: look also where only an administrator may, since passwords stand there; nothing that is found
            there keeps a campaign from starting.

    Returns:
        One finding per check, in a fixed order. A server that cannot be reached gives the one finding that says so, and
        one that is lost half-way ends the list with it.
    """
    findings: list[Finding] = []
    try:
        findings.append(reachable(client))
        info = _info(client)
        findings.append(_from_info("server", _server, info))
        findings.append(_from_info("role", _role, info))
        findings.append(_from_info("persistence", _persistence, info))
        if read_settings and (info is None or info.get("aof_enabled")):
            findings.append(_flushing(client))
        findings.append(_from_info(EVICTION, eviction, info))
        findings.append(_from_info("memory", lambda shown: memory(shown, need_bytes, need_alone_bytes), info))
        findings.append(_from_info("connections", connections, info))
        findings.append(clock(client))
        findings.append(latency(client))
    except (redis.RedisError, OSError) as error:
        findings.append(unreachable(client, error))
    return findings


def check_blobs(
    client: redis.Redis, broker: redis.Redis, need_bytes: int | None = None, *, read_settings: bool = True
) -> list[Finding]:
    """Look at the server for blobs (``places.py``); the findings are named "blobs ...".

    Args:
        client: connected to it.
        broker: connected to the broker, which must be another server.
        need_bytes: what the campaign needs there at most, in bytes; ``None`` leaves the comparison out.
        read_settings: as above.

    Returns:
        As :func:`check_broker`.
    """
    findings: list[Finding] = []
    try:
        findings.append(reachable(client))
        info = _info(client)
        findings.append(_from_info("server", _server, info))
        findings.append(_from_info("identity", lambda shown: _identity(shown, broker), info))
        findings.append(_from_info("role", _role, info))
        if read_settings:
            findings.append(_from_info("persistence", lambda shown: _no_persistence(shown, client), info))
        findings.append(_from_info(EVICTION, eviction, info))
        findings.append(_from_info("memory", lambda shown: memory(shown, need_bytes), info))
        findings.append(latency(client))
    except (redis.RedisError, OSError) as error:
        findings.append(unreachable(client, error))
    return [replace(finding, name=f"blobs {finding.name}") for finding in findings]


def _server(info: Info) -> Finding:
    version = str(info["redis_version"])
    detail = f"Redis {version}"
    if "valkey_version" in info:
        detail = f"Valkey {info['valkey_version']}, compatible with Redis {version}"
    if tuple(int(part) for part in version.split(".")[:2]) < MINIMUM_VERSION:
        return Finding("server", "fail", detail, "use Redis 7.0 or later, or Valkey")
    # Valkey 9 names it otherwise; a server that names it not at all may still say that it is part of a cluster.
    mode = str(info.get("server_mode", info.get("redis_mode", "standalone")))
    if mode == "standalone" and int(info.get("cluster_enabled", 0)):
        mode = "cluster"
    if mode != "standalone":
        return Finding(
            "server",
            "fail",
            f"{detail}, mode {mode}",
            "use a single server; queues cannot span a cluster",
        )
    return Finding("server", "ok", detail)


def _identity(info: Info, broker: redis.Redis) -> Finding:
    name, run_id = "identity", info["run_id"]
    try:
        is_broker = broker.info("server")["run_id"] == run_id
    except (redis.RedisError, OSError) as error:
        reason = str(error).rstrip(".") or type(error).__name__
        return Finding(name, "warning", f"cannot be compared with the broker ({reason})", "check the broker first")
    if is_broker:
        remedy = "start a second server and give its address, or leave --blobs out"
        return Finding(name, "fail", "it is the broker itself", remedy)
    return Finding(name, "ok", "another server than the broker")


def _role(info: Info) -> Finding:
    role = str(info["role"])
    if role != "master":
        return Finding("role", "fail", f"{role}, which refuses writes", "give the address of the primary server")
    return Finding("role", "ok", "primary")


def _persistence(info: Info) -> Finding:
    name = "persistence"
    if not info["aof_enabled"]:
        return Finding(
            name,
            "warning",
            "no append-only file: a restart of the server loses the update log and every open campaign with it",
            "set appendonly yes",
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding(name, "fail", "the last write to the append-only file failed", "free space on the server's disk")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return Finding(
            name,
            "warning",
            "the last snapshot failed, and the server may refuse writes",
            "free space on its disk, or set save ''",
        )
    return Finding(name, "ok", "append-only file")


def _no_persistence(info: Info, client: redis.Redis) -> Finding:
    name, wasted = "persistence", "which costs time, and all that is here can be made again"
    if info["aof_enabled"]:
        return Finding(name, "warning", f"writes an append-only file, {wasted}", "set appendonly no")
    try:
        snapshots = _setting(client, "save")
    except redis.ResponseError as error:
        return not_permitted(name, error)
    if snapshots:
        return Finding(name, "warning", f"writes snapshots (save {snapshots}), {wasted}", 'set save ""')
    return Finding(name, "ok", "none")


def _setting(client: redis.Redis, name: str) -> str:
    answer = cast(dict[str | bytes, str | bytes], client.config_get(name))
    value = next(iter(answer.values()), b"")
    return value.decode() if isinstance(value, bytes) else value


def _flushing(client: redis.Redis) -> Finding:
    try:
        policy = _setting(client, "appendfsync")
    except redis.ResponseError as error:
        return not_permitted("flushing", error)
    if policy not in ("always", "everysec"):
        return Finding(
            "flushing", "warning", f"appendfsync {policy}: a power cut can lose minutes", "set appendfsync everysec"
        )
    return Finding("flushing", "ok", f"appendfsync {policy}")


def _info(client: redis.Redis) -> Info | None:
    try:
        return client.info()
    except redis.ResponseError:
        return None


def _from_info(name: str, check: Callable[[Info], Finding], info: Info | None) -> Finding:
    if info is None:
        return not_permitted(name, "INFO is refused")
    try:
        return check(info)
    except (KeyError, ValueError) as error:  # managed servers hide fields
        return Finding(name, "warning", f"the server does not show it ({error})", "ask the server's operator")
