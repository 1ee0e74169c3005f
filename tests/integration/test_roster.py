"""The roster against a real server and its twin: who is alive, by one clock, whatever strangers write into it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import redis

from fl_core.broker import keys
from fl_core.broker.overview.roster import FORGET_SECONDS, KEEP_SECONDS, Roster
from fl_core.errors import RejectedUpdate
from fl_core.wire.messages import Beat

BEAT = Beat(
    worker="pi",
    state="training",
    queues=("default", "gpu"),
    holding="digits-1/1-abc#2",
    host="raspberry",
    pid=42,
    started_ms=1,
    threads=1,
    device="cpu",
    num_done=3,
    num_failed=0,
    bytes_up=10,
    bytes_down=20,
)


@pytest.fixture
def client(server_and_twin: redis.Redis) -> redis.Redis:
    """A real server, and its twin in memory."""
    return server_and_twin


def _content(client: redis.Redis) -> dict[bytes, object]:
    """All keys with what they hold; the roster has hashes and sorted sets."""
    return {
        key: client.hgetall(key) if client.type(key) == b"hash" else client.zrange(key, 0, -1, withscores=True)
        for key in client.keys("*")
    }


def _entry(client: redis.Redis, worker: str) -> str:
    """A worker's own, in the registers."""
    row = client.hget(keys.device(worker), "row")
    assert isinstance(row, bytes)
    return f"{worker} {row.split(b'|')[1].decode()}"


def _age(client: redis.Redis, worker: str, seconds: float) -> None:
    """Make a worker's last beat older."""
    entry = _entry(client, worker)
    client.zincrby(keys.DEVICES, -seconds * 1000, entry)
    last = client.zscore(keys.DEVICES, entry)
    token, held = client.hget(keys.device(worker), "row").decode().split("|", 2)[1:]  # type: ignore[union-attr]
    client.hset(keys.device(worker), "row", f"{last:.0f}|{token}|{held}")


def test_a_beat_is_seen(client: redis.Redis) -> None:
    """The whole record comes back, with the time since, by the server's clock."""
    roster = Roster(client)
    roster.beat(BEAT)
    (presence,) = roster.present()
    assert presence.beat == BEAT
    assert 0 <= presence.silent_seconds < 5
    _age(client, "pi", 30)
    assert 30 <= roster.present()[0].silent_seconds < 35


def test_a_later_beat_replaces_the_one_before(client: redis.Redis) -> None:
    """A worker is there once, with its last word."""
    roster = Roster(client)
    roster.beat(BEAT)
    _age(client, "pi", 100)
    roster.beat(replace(BEAT, state="idle", holding=""))
    (presence,) = roster.present()
    assert (presence.beat.state, presence.beat.holding) == ("idle", "")
    assert presence.silent_seconds < 5


def test_the_most_recently_seen_come_first(client: redis.Redis) -> None:
    """A bounded look shows the ones that were heard last."""
    roster = Roster(client)
    for age, name in enumerate(["c", "a", "d", "b"]):
        roster.beat(replace(BEAT, worker=name))
        _age(client, name, 10 * age)
    assert [presence.beat.worker for presence in roster.present()] == ["c", "a", "d", "b"]
    assert [presence.beat.worker for presence in roster.present(max_workers=2)] == ["c", "a"]


def test_a_lookup_tells_silence_and_what_is_in_hand(client: redis.Redis) -> None:
    """For known workers their silence and their task, for a stranger endless silence; for nobody nothing."""
    roster = Roster(client)
    roster.beat(BEAT)
    roster.beat(replace(BEAT, worker="laptop", holding="", state="idle"))
    _age(client, "laptop", 60)
    found = roster.lookup(["laptop", "stranger", "pi"])
    assert list(found) == ["laptop", "stranger", "pi"]
    assert found["pi"][1] == "digits-1/1-abc#2"
    assert found["pi"][0] < 5
    assert 60 <= found["laptop"][0] < 65
    assert found["stranger"] == (float("inf"), "")
    assert roster.lookup([]) == {}


def test_a_worker_that_leaves_is_gone(client: redis.Redis) -> None:
    """Nothing of it stays in any of the keys, and leaving twice is no error."""
    roster = Roster(client)
    roster.beat(BEAT)
    roster.beat(replace(BEAT, worker="laptop"))
    roster.leave("pi", BEAT.queues)
    roster.leave("pi", BEAT.queues)
    assert [presence.beat.worker for presence in roster.present()] == ["laptop"]
    assert roster.lookup(["pi"]) == {"pi": (float("inf"), "")}
    assert not client.exists(keys.device("pi"))
    for register in (keys.DEVICES, keys.live("gpu"), keys.live("default")):
        assert client.zrange(register, 0, -1) == [_entry(client, "laptop").encode()]


def test_bad_bytes_of_one_worker_do_not_hide_the_others(client: redis.Redis) -> None:
    """A damaged, missing or hostile record is passed over."""
    roster = Roster(client)
    roster.beat(BEAT)
    now = time.time() * 1000
    client.hset(keys.device("long"), mapping={"row": "1|0a|", "beat": b"x" * 2000})
    client.set(keys.device("another"), "type")
    for name, record in ({"rubbish": b"\xc1", "nested": b"\x91" * 1010, "old": b"\x80", "empty": b""}).items():
        client.hset(keys.device(name), mapping={"row": f"{now:.0f}|0a|", "beat": record})
        client.zadd(keys.DEVICES, {f"{name} 0a": now})
    client.zadd(keys.DEVICES, dict.fromkeys(("none 0a", "long 0a", "another 0a", "no entry of ours", "x"), now))
    assert [presence.beat for presence in roster.present()] == [BEAT]


def test_a_beat_that_no_reader_takes_is_not_sent(client: redis.Redis) -> None:
    """A bad field raises in the worker, and the roster stays as it was."""
    with pytest.raises(RejectedUpdate):
        Roster(client).beat(replace(BEAT, state="asleep"))
    assert client.dbsize() == 0


def test_the_silent_are_forgotten_after_a_day(client: redis.Redis) -> None:
    """Tidying drops who has been silent for longer than a day and keeps the rest."""
    roster = Roster(client)
    for name, age in (("now", 0.0), ("hours", FORGET_SECONDS - 600), ("days", FORGET_SECONDS + 600)):
        roster.beat(replace(BEAT, worker=name))
        _age(client, name, age)
    _register(client, "gpu", ["old"], -FORGET_SECONDS - 60)
    for _ in range(2):
        roster.forget_silent(["gpu"])
        assert [presence.beat.worker for presence in roster.present()] == ["now", "hours"]
        assert len(client.zrange(keys.DEVICES, 0, -1)) == 2
        assert len(client.zrange(keys.live("gpu"), 0, -1)) == 3, "of those, who was due a day ago"
    for key in (keys.DEVICES, keys.live("gpu"), keys.device("now")):
        assert 0 < client.ttl(key) <= KEEP_SECONDS, "all of it ends by itself"


def test_reading_the_roster_writes_nothing(client: redis.Redis) -> None:
    """Monitors may look as often as they like."""
    roster = Roster(client)
    roster.beat(BEAT)
    _age(client, "pi", 2 * FORGET_SECONDS)
    before = _content(client)
    roster.present()
    roster.lookup(["pi", "stranger"])
    assert _content(client) == before


# -- counting ------------------------------------------------------------------------------------------------------


def _register(client: redis.Redis, queue: str, names: list[str], due_in_seconds: float) -> None:
    """Workers of a queue whose next beat is due then, as ``BEAT`` writes them."""
    seconds, _ = client.time()
    due_ms = (seconds + due_in_seconds) * 1000
    client.zadd(keys.live(queue), dict.fromkeys((f"{name} 0a" for name in names), due_ms))


def test_live_workers_are_counted_and_not_sampled(client: redis.Redis) -> None:
    """Three of a rare class are found beside ten thousand that were heard later, and those are ten thousand."""
    _register(client, "gpu", ["g1", "g2", "g3"], 1.0)
    _register(client, "default", [f"w{n}" for n in range(10_000)], 20.0)
    _register(client, "default", [f"dead{n}" for n in range(500)], -60.0)
    roster = Roster(client)
    assert roster.count_live(["gpu", "default", "tpu"]) == {"gpu": 3, "default": 10_000, "tpu": 0}
    entries = list(roster.live_entries("default"))
    assert len(entries) == len(set(entries)) == 10_000
    for name in ("g1", "g2", "g3"):
        client.hset(keys.device(name), "row", "1|0a|")
    assert roster.serving("gpu", max_workers=2) == {"g3": True, "g2": True}


def test_who_has_a_task_beats_more_often_and_is_missed_sooner(client: redis.Redis) -> None:
    """Silence is judged by what the worker itself promised: two seconds with a task, twenty without."""
    roster = Roster(client)
    roster.beat(replace(BEAT, worker="busy", queues=("gpu",)))
    roster.beat(replace(BEAT, worker="idle", queues=("gpu",), state="idle", holding=""))
    assert roster.count_live(["gpu"]) == {"gpu": 2}
    for silent, live in ((10.0, {"busy": False, "idle": True}), (20.0, {"busy": False, "idle": False})):
        for name in ("busy", "idle"):
            client.zincrby(keys.live("gpu"), -silent * 1000, _entry(client, name))
            _age(client, name, silent)
        assert roster.serving("gpu", max_workers=10) == live
        assert {seen.beat.worker: seen.is_alive for seen in roster.present()} == live
        assert roster.count_live(["gpu"])["gpu"] == sum(live.values())


def test_a_worker_that_was_started_again_is_there_once(client: redis.Redis) -> None:
    """Its earlier life had another token; what that left in the registers goes with the first beat."""
    before, after = Roster(client), Roster(client)
    before.beat(BEAT)
    after.beat(BEAT)
    for register in (keys.DEVICES, keys.live("gpu"), keys.live("default")):
        assert len(client.zrange(register, 0, -1)) == 1
    before.leave("pi", BEAT.queues)
    assert after.count_live(["gpu"]) == {"gpu": 1}


def test_nobody_beats_for_another_or_takes_their_place(client: redis.Redis) -> None:
    """What a device may write: its own hash, and entries in the registers, of which it does not know others'."""
    roster = Roster(client)
    roster.beat(replace(BEAT, worker="alive"))
    roster.beat(replace(BEAT, worker="dead"))
    for register in (keys.live("gpu"), keys.DEVICES):
        client.zincrby(register, -100_000, _entry(client, "dead"))
    now_ms = client.time()[0] * 1000
    registers = (keys.DEVICES, keys.live("gpu"))
    for register in registers:
        client.zrem(register, "alive", "alive 0a")
        client.zadd(register, {"alive": 1, "alive 0a": 1, "dead": now_ms + 5000, "dead 0a": now_ms + 5000})
        client.zadd(register, dict.fromkeys(("nobody 0a", "nobody", "pi 0a"), now_ms + 5000))
    client.hset(keys.device("pi"), mapping={"row": f"{now_ms}|0b|", "beat": replace(BEAT, worker="alive").to_bytes()})
    client.zadd(keys.DEVICES, {"pi 0b": now_ms})
    assert roster.serving("gpu", max_workers=100) == {"alive": True, "dead": False}
    assert {seen.beat.worker: seen.is_alive for seen in roster.present()} == {"alive": True, "dead": False}


def test_a_beat_by_another_clock_is_not_alive_for_ever(client: redis.Redis) -> None:
    """After the server's clock was set back, workers that died before are not counted until it has caught up."""
    _register(client, "gpu", ["before"], 3600.0)
    Roster(client).beat(BEAT)
    assert Roster(client).count_live(["gpu"]) == {"gpu": 1}


def test_a_beat_from_the_future_is_no_sign_of_life(client: redis.Redis) -> None:
    """The server's clock was set back by an hour: who has not beaten since is silent, who has is heard."""
    roster = Roster(client)
    for name in ("dead", "alive"):
        roster.beat(replace(BEAT, worker=name))
    for name in ("dead", "alive"):
        _age(client, name, -3600)
    roster.beat(replace(BEAT, worker="alive"))
    heard = {seen.beat.worker: seen.is_alive for seen in roster.present()}
    assert heard == {"dead": False, "alive": True}
    silent = {name: seconds for name, (seconds, _) in roster.lookup(["dead", "alive"]).items()}
    assert silent["dead"] > 3600 > 60 > silent["alive"]
