"""Is this Redis fit to carry a campaign? Looked at from outside, with read-only commands of bounded cost.

Every check gives one :class:`Finding`; none writes, and none lists keys. A server may forbid ``INFO``, ``CONFIG`` or
``TIME`` to this user: then the finding is a warning that says so, since not knowing is no proof of a fault.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import redis

from fl_core.trial.findings import Finding

MINIMUM_VERSION = (7, 0)
NUM_PINGS = 50
SLOW_PING_SECONDS = 0.050
MAX_PINGING_SECONDS = 5.0
CLOCK_DIFFERENCE_SECONDS = 2.0
FREE_CONNECTIONS = 64
"""Room for about thirty more workers: each holds two connections."""

_Info = dict[str, Any]


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


EVICTION = "eviction"
"""The name of the finding that ``fedtide run --allow-eviction`` overrules."""

BLOBS_REACHABLE = "blobs reachable"
"""The name of a finding that is a reason to wait and not to refuse: campaigns do without the server for blobs."""


def check_broker(
    client: redis.Redis, need_bytes: int | None = None, need_alone_bytes: int | None = None
) -> list[Finding]:
    """Look at a server; whatever it answers becomes a finding and not an exception.

    Args:
        client: connected as the user that the programs will use.
        need_bytes: what the campaign needs there at most, in bytes; less memory fails. ``None`` leaves the comparison
            out.
        need_alone_bytes: what it needs while the server for blobs is away; less memory is a warning.

    Returns:
        One finding per check, in a fixed order. A server that cannot be reached gives the one finding that says so, and
        one that is lost half-way ends the list with it.
    """
    findings: list[Finding] = []
    try:
        findings.append(_reachable(client))
        info = _info(client)
        findings.append(_from_info("server", _server, info))
        findings.append(_from_info("role", _role, info))
        findings.append(_from_info("persistence", _persistence, info))
        if info is None or info.get("aof_enabled"):
            findings.append(_flushing(client))
        findings.append(_from_info(EVICTION, _eviction, info))
        findings.append(_from_info("memory", lambda shown: _memory(shown, need_bytes, need_alone_bytes), info))
        findings.append(_from_info("connections", _connections, info))
        findings.append(_clock(client))
        findings.append(_latency(client))
    except (redis.RedisError, OSError) as error:
        findings.append(_unreachable(client, error))
    return findings


def check_blobs(client: redis.Redis, broker: redis.Redis, need_bytes: int | None = None) -> list[Finding]:
    """Look at the server for blobs (``places.py``); the findings are named "blobs ...".

    Args:
        client: connected to it.
        broker: connected to the broker, which must be another server.
        need_bytes: what the campaign needs there at most, in bytes; ``None`` leaves the comparison out.

    Returns:
        As :func:`check_broker`.
    """
    findings: list[Finding] = []
    try:
        findings.append(_reachable(client))
        info = _info(client)
        findings.append(_from_info("server", _server, info))
        findings.append(_from_info("identity", lambda shown: _identity(shown, broker), info))
        findings.append(_from_info("role", _role, info))
        findings.append(_from_info("persistence", lambda shown: _no_persistence(shown, client), info))
        findings.append(_from_info(EVICTION, _eviction, info))
        findings.append(_from_info("memory", lambda shown: _memory(shown, need_bytes), info))
        findings.append(_latency(client))
    except (redis.RedisError, OSError) as error:
        findings.append(_unreachable(client, error))
    return [replace(finding, name=f"blobs {finding.name}") for finding in findings]


def _reachable(client: redis.Redis) -> Finding:
    try:
        client.ping()
    except redis.ResponseError as error:  # it answers, if only to refuse
        return _not_permitted("reachable", error)
    return Finding("reachable", "ok", f"answers at {_address(client)}")


def _unreachable(client: redis.Redis, error: Exception) -> Finding:
    if isinstance(error, redis.BusyLoadingError):
        remedy = "wait until the server has loaded its data"
    elif isinstance(error, redis.AuthenticationError):
        remedy = "put a user and a password that the server knows into the URL: redis://USER:PASSWORD@HOST:PORT/0"
    else:
        remedy = "check the address, that the server runs, and that no firewall is in between"
    return Finding("reachable", "fail", f"{_address(client)}: {str(error).rstrip('.') or type(error).__name__}", remedy)


def _server(info: _Info) -> Finding:
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


def _identity(info: _Info, broker: redis.Redis) -> Finding:
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


def _role(info: _Info) -> Finding:
    role = str(info["role"])
    if role != "master":
        return Finding("role", "fail", f"{role}, which refuses writes", "give the address of the primary server")
    return Finding("role", "ok", "primary")


def _persistence(info: _Info) -> Finding:
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


def _no_persistence(info: _Info, client: redis.Redis) -> Finding:
    name, wasted = "persistence", "which costs time, and all that is here can be made again"
    if info["aof_enabled"]:
        return Finding(name, "warning", f"writes an append-only file, {wasted}", "set appendonly no")
    try:
        snapshots = _setting(client, "save")
    except redis.ResponseError as error:
        return _not_permitted(name, error)
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
        return _not_permitted("flushing", error)
    if policy not in ("always", "everysec"):
        return Finding(
            "flushing", "warning", f"appendfsync {policy}: a power cut can lose minutes", "set appendfsync everysec"
        )
    return Finding("flushing", "ok", f"appendfsync {policy}")


def _eviction(info: _Info) -> Finding:
    seen = _evicting(info)
    if seen is None:
        policy = str(info["maxmemory_policy"])
        return Finding(EVICTION, "ok", policy if int(info["maxmemory"]) else f"{policy}, and no maxmemory to act on")
    detail = f"{seen.policy} above {_size(int(info['maxmemory']))}: {seen.danger}"
    return Finding(EVICTION, "fail", detail, "set maxmemory-policy noeviction")


def _evicting(info: _Info) -> Evicting | None:
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


def _memory(info: _Info, need_bytes: int | None, need_alone_bytes: int | None = None) -> Finding:
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


def _connections(info: _Info) -> Finding:
    limit, used = int(info["maxclients"]), int(info["connected_clients"])
    detail = f"{used} of {limit}"
    if limit - used < FREE_CONNECTIONS:
        return Finding("connections", "warning", detail, "raise maxclients; a worker holds two connections")
    return Finding("connections", "ok", detail)


def _clock(client: redis.Redis) -> Finding:
    before = time.time()
    try:
        seconds, microseconds = client.time()
    except redis.ResponseError as error:
        return _not_permitted("clock", error)
    difference = seconds + microseconds / 1e6 - (before + time.time()) / 2
    detail = f"{difference:+.3f} s against this machine"
    if abs(difference) > CLOCK_DIFFERENCE_SECONDS:
        return Finding(
            "clock", "warning", detail, "synchronise both clocks; only displayed times suffer, leases use the server's"
        )
    return Finding("clock", "ok", detail)


def _latency(client: redis.Redis) -> Finding:
    seconds: list[float] = []
    give_up = time.perf_counter() + MAX_PINGING_SECONDS
    try:
        while len(seconds) < NUM_PINGS and time.perf_counter() < give_up:
            start = time.perf_counter()
            client.ping()
            seconds.append(time.perf_counter() - start)
    except redis.ResponseError as error:
        return _not_permitted("latency", error)
    median = statistics.median(seconds)
    detail = f"median {median * 1e3:.2f} ms, worst {max(seconds) * 1e3:.2f} ms of {len(seconds)} pings"
    if median > SLOW_PING_SECONDS:
        return Finding(
            "latency", "warning", detail, "put the coordinator nearer to the server; every merge waits for it"
        )
    return Finding("latency", "ok", detail)


def _info(client: redis.Redis) -> _Info | None:
    try:
        return client.info()
    except redis.ResponseError:
        return None


def _from_info(name: str, check: Callable[[_Info], Finding], info: _Info | None) -> Finding:
    if info is None:
        return _not_permitted(name, "INFO is refused")
    try:
        return check(info)
    except (KeyError, ValueError) as error:  # managed servers hide fields
        return Finding(name, "warning", f"the server does not show it ({error})", "ask the server's operator")


def _not_permitted(name: str, reason: object) -> Finding:
    remedy = "grant this user +ping, +info, +time and +config|get, or check as an administrator"
    return Finding(name, "warning", f"not permitted to look ({str(reason).rstrip('.')})", remedy)


def _address(client: redis.Redis) -> str:
    arguments = client.get_connection_kwargs()
    return str(arguments.get("path") or f"{arguments.get('host', 'localhost')}:{arguments.get('port', 6379)}")


def _size(num_bytes: int) -> str:
    size = float(num_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
