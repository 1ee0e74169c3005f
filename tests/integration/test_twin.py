"""The twin in memory against a real server: the same commands in any order get the same replies, and leave the same."""

from __future__ import annotations

from typing import Any, TypeAlias

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl_core.broker.memory.client import MemoryClient, MemoryServer

Words: TypeAlias = tuple[str, ...]

KEYS = st.sampled_from(["a", "b", "c"])
NAMES = st.sampled_from(["x", "y", "z"])
NUMBERS = st.integers(-3, 12).map(str)
COUNTS = st.integers(1, 5).map(str)
SMALL = st.integers(0, 5).map(str)
BOUNDS = st.one_of(NUMBERS, NUMBERS.map(lambda number: f"({number}"), st.sampled_from(["-inf", "+inf"]))
POSITIONS = st.tuples(st.integers(0, 4), st.integers(0, 3)).map(lambda at: f"{at[0]}-{at[1]}")
FROM = st.one_of(POSITIONS, POSITIONS.map(lambda at: f"({at}"), st.just("-"))
TO = st.one_of(POSITIONS, POSITIONS.map(lambda at: f"({at}"), st.just("+"))


def _command(name: str, *words: st.SearchStrategy[Any]) -> st.SearchStrategy[Words]:
    return st.tuples(*words).map(lambda found: (*name.split(), *found))


COMMANDS = st.one_of(
    _command("SET", KEYS, NUMBERS), _command("GET", KEYS), _command("MGET", KEYS, KEYS), _command("DEL", KEYS),
    _command("UNLINK", KEYS, KEYS), _command("EXISTS", KEYS, KEYS), _command("TYPE", KEYS), _command("STRLEN", KEYS),
    _command("SETRANGE", KEYS, SMALL, NAMES), _command("GETRANGE", KEYS, SMALL, st.sampled_from(["-1", "0", "3"])),
    _command("PERSIST", KEYS), _command("EXPIRE", KEYS, st.just("100")), _command("TTL", KEYS),
    _command("SET", KEYS, NAMES, st.just("EX"), st.just("100")), _command("SET", KEYS, NAMES, st.just("KEEPTTL")),
    _command("HSET", KEYS, NAMES, NUMBERS), _command("HSET", KEYS, NAMES, NUMBERS, NAMES, NAMES),
    _command("HGET", KEYS, NAMES), _command("HMGET", KEYS, NAMES, NAMES), _command("HGETALL", KEYS),
    _command("HDEL", KEYS, NAMES, NAMES), _command("HLEN", KEYS), _command("HEXISTS", KEYS, NAMES),
    _command("HINCRBY", KEYS, NAMES, NUMBERS), _command("HKEYS", KEYS), _command("HVALS", KEYS),
    _command("HSETNX", KEYS, NAMES, NUMBERS), _command("RPUSH", KEYS, NAMES, NAMES), _command("LINDEX", KEYS, NUMBERS),
    _command("LTRIM", KEYS, st.sampled_from(["0", "1", "2", "-2"]), st.sampled_from(["-1", "0", "3"])),
    _command("LPUSH", KEYS, NAMES, NAMES), _command("RPOP", KEYS), _command("LLEN", KEYS),
    _command("LRANGE", KEYS, NUMBERS, NUMBERS), _command("LREM", KEYS, NUMBERS, NAMES),
    _command("SADD", KEYS, NAMES, NAMES), _command("SMEMBERS", KEYS),
    _command("ZADD", KEYS, NUMBERS, NAMES), _command("ZMSCORE", KEYS, NAMES, NAMES), _command("ZREM", KEYS, NAMES),
    _command("ZCOUNT", KEYS, BOUNDS, BOUNDS), _command("ZRANGEBYSCORE", KEYS, BOUNDS, BOUNDS, st.just("WITHSCORES")),
    _command("ZRANGEBYSCORE", KEYS, BOUNDS, BOUNDS, st.just("LIMIT"), SMALL, SMALL),
    _command("ZREVRANGE", KEYS, SMALL, st.sampled_from(["-1", "0", "1"]), st.just("WITHSCORES")),
    _command("ZREMRANGEBYSCORE", KEYS, BOUNDS, BOUNDS), _command("ZINCRBY", KEYS, NUMBERS, NAMES),
    _command("XADD", KEYS, POSITIONS, NAMES, NUMBERS), _command("XLEN", KEYS), _command("XDEL", KEYS, POSITIONS),
    _command("XADD", KEYS, st.just("MAXLEN"), COUNTS, POSITIONS, NAMES, NUMBERS),
    _command("XRANGE", KEYS, FROM, TO), _command("XRANGE", KEYS, FROM, TO, st.just("COUNT"), COUNTS),
    _command("XREVRANGE", KEYS, TO, FROM, st.just("COUNT"), COUNTS),
    _command("XTRIM", KEYS, st.just("MINID"), POSITIONS),
    _command("XREAD COUNT 2 STREAMS", KEYS, POSITIONS),
)  # fmt: skip


def _ask(client: redis.Redis, words: Words) -> Any:
    """The reply as it came, or that there was a refusal."""
    try:
        reply = client.quick(*words)  # type: ignore[attr-defined]
    except redis.ResponseError:
        return "refused"
    return sorted(reply) if words[0] == "SMEMBERS" and isinstance(reply, list) else reply


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(COMMANDS, min_size=1, max_size=40))
def test_the_twin_answers_as_a_server_does(client: redis.Redis, commands: list[Words]) -> None:
    """Whatever came before: replies and refusals, and at the end every key's type and end."""
    client.flushall()
    twin = MemoryClient(MemoryServer())
    for words in commands:
        assert _ask(twin, words) == _ask(client, words), words
    for key in ("a", "b", "c"):
        for words in (("TYPE", key), ("EXISTS", key)):
            assert _ask(twin, words) == _ask(client, words), words
