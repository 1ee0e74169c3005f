"""A server's answers, their delay and its clock: findings for ``fitness.py``."""

from __future__ import annotations

import statistics
import time

import redis

from fl_core.trial.findings import Finding

NUM_PINGS = 50
SLOW_PING_SECONDS = 0.050
MAX_PINGING_SECONDS = 5.0
CLOCK_DIFFERENCE_SECONDS = 2.0


def reachable(client: redis.Redis) -> Finding:
    """Whether it answers."""
    try:
        client.ping()
    except redis.ResponseError as error:  # it answers, if only to refuse
        return not_permitted("reachable", error)
    return Finding("reachable", "ok", f"answers at {_address(client)}")


def unreachable(client: redis.Redis, error: Exception) -> Finding:
    """Why it does not."""
    if isinstance(error, redis.BusyLoadingError):
        remedy = "wait until the server has loaded its data"
    elif isinstance(error, redis.AuthenticationError):
        remedy = "put a user and a password that the server knows into the URL: redis://USER:PASSWORD@HOST:PORT/0"
    else:
        remedy = "check the address, that the server runs, and that no firewall is in between"
    return Finding("reachable", "fail", f"{_address(client)}: {str(error).rstrip('.') or type(error).__name__}", remedy)


def clock(client: redis.Redis) -> Finding:
    """How far its clock is from this machine's."""
    before = time.time()
    try:
        seconds, microseconds = client.time()
    except redis.ResponseError as error:
        return not_permitted("clock", error)
    difference = seconds + microseconds / 1e6 - (before + time.time()) / 2
    detail = f"{difference:+.3f} s against this machine"
    if abs(difference) > CLOCK_DIFFERENCE_SECONDS:
        return Finding(
            "clock", "warning", detail, "synchronise both clocks; only displayed times suffer, leases use the server's"
        )
    return Finding("clock", "ok", detail)


def latency(client: redis.Redis) -> Finding:
    """How long a round trip takes."""
    seconds: list[float] = []
    give_up = time.perf_counter() + MAX_PINGING_SECONDS
    try:
        while len(seconds) < NUM_PINGS and time.perf_counter() < give_up:
            start = time.perf_counter()
            client.ping()
            seconds.append(time.perf_counter() - start)
    except redis.ResponseError as error:
        return not_permitted("latency", error)
    median = statistics.median(seconds)
    detail = f"median {median * 1e3:.2f} ms, worst {max(seconds) * 1e3:.2f} ms of {len(seconds)} pings"
    if median > SLOW_PING_SECONDS:
        return Finding(
            "latency", "warning", detail, "put the coordinator nearer to the server; every merge waits for it"
        )
    return Finding("latency", "ok", detail)


def not_permitted(name: str, reason: object) -> Finding:
    """What this user may not look at."""
    remedy = "grant this user +ping, +info, +time and +config|get, or check as an administrator"
    return Finding(name, "warning", f"not permitted to look ({str(reason).rstrip('.')})", remedy)


def _address(client: redis.Redis) -> str:
    arguments = client.get_connection_kwargs()
    return str(arguments.get("path") or f"{arguments.get('host', 'localhost')}:{arguments.get('port', 6379)}")
