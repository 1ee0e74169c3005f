"""Users with the rights of their work: a whole campaign asks for nothing more, and a hostile device gets no more.

On the server of the ``embedded`` extra, and on a ``redis-server`` where one is on the PATH: the two differ in what
their ACL knows.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from coordinator.monitor.observer import Observer
from fl_core.broker import scripts
from fl_core.broker.access import rules
from fl_core.broker.access.users import User, set_users
from fl_core.broker.bulk.places import Places
from fl_core.broker.connection import connect
from fl_core.broker.inbox import packed
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.overview import leftovers
from fl_core.broker.overview.quarantine import Quarantine
from fl_core.broker.overview.registry import Registry
from fl_core.broker.overview.strangers import drop_strangers
from fl_core.broker.scripts import Script
from fl_core.broker.server.binary import bundled_binary
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.identity.enrolment import password_hash
from fl_core.wire.messages import TrainOrder
from tests.integration.lab import Lab, assert_identity, until

PASSWORD = "of-the-test"
KINDS = ("bundled", "redis-server")


DEVICES = ("one", "two", "three")


def _at_broker() -> dict[str, list[str]]:
    found = {name: rules.device(name, ("default",)) for name in DEVICES}
    return found | {"boss": rules.operator(), "eye": rules.monitor(), "chief": rules.coordinator()}


def _at_blobs() -> dict[str, list[str]]:
    return {name: rules.device_at_blobs(name) for name in DEVICES} | {"chief": rules.coordinator_at_blobs()}


class Guarded:
    """A lab whose programs each have a user of their own."""

    def __init__(self, lab: Lab, kind: str) -> None:
        self.lab = lab
        lab.server.stop()
        binary = bundled_binary() if kind == "bundled" else Path(str(shutil.which(kind)))
        lab.server = EmbeddedServer(lab.folder / "guarded", persistent=True, port=lab.server.port, binary=binary)
        lab.server.start()
        self.second = EmbeddedServer(lab.folder / "second", persistent=False, binary=binary)
        self.second.start()
        self.admins = [connect(server.url) for server in (lab.server, self.second)]
        self.admin = self.admins[0]
        self.let_in()

    def let_in(self) -> None:
        """Also after a restart: the server has no file for its users."""
        hashed = password_hash(PASSWORD)
        for admin, users in zip(self.admins, (_at_broker(), _at_blobs()), strict=True):
            set_users(admin, [User(name, (hashed,), granted) for name, granted in users.items()])

    def close(self) -> None:
        for admin in self.admins:
            admin.close()
        self.second.stop()

    def url(self, name: str) -> str:
        return self.lab.server.url.replace("redis://", f"redis://{name}:{PASSWORD}@")

    def as_user(self, name: str) -> Lab:
        """The lab, with programs that log in as this user."""
        self.lab.url = self.url(name)
        return self.lab

    def reset(self) -> None:
        """Forget what was refused so far."""
        for admin in self.admins:
            admin.execute_command("ACL", "LOG", "RESET")

    def refusals(self) -> list[tuple[str, str]]:
        """What the servers have refused so far, by user and object; a user that is not there yet counts for nothing."""
        rows = [row for admin in self.admins for row in admin.execute_command("ACL", "LOG")]
        return [found for found in map(_shown, rows) if found[1] != "AUTH"]


@pytest.fixture(params=KINDS)
def guarded(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Guarded]:
    if request.param == "redis-server" and shutil.which("redis-server") is None:
        pytest.skip("no redis-server is on the PATH (Debian: apt-get install redis-server)")
    guarded = Guarded(lab, request.param)
    yield guarded
    guarded.close()


def test_a_campaign_asks_for_nothing_that_its_users_may_not(guarded: Guarded) -> None:
    """Two servers, large updates, patches, a failure, a worker's stop and restart, operator, monitor, outage, end."""
    model = {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [1200], "classes": 10}}
    lab = guarded.as_user("chief")
    spec = lab.spec(model=model, codec={"down": "int8"}, stop={"updates": 100_000}, dispatch={"concurrency": 6})
    blobs = ("--blobs", f":{guarded.second.port}")
    coordinator = lab.run(spec, *blobs)
    first = guarded.as_user("one").worker("one", *blobs, shard=0, delay=0.1)
    guarded.as_user("two").worker("two", *blobs, shard=1, delay=0.1)
    until(lambda: len(guarded.as_user("eye").ask("workers")) == 2)
    failing = guarded.as_user("three").program(
        "workers", "--broker", guarded.url("three"), "--name", "three", "--threads", "1",
        "--data", "fl_core.data:play", "--data-args", json.dumps({"index": 0, "num_speakers": 8, "length": 32}),
        "--state-dir", str(lab.folder / "state-three"), name="three",
    )  # fmt: skip
    (row,) = until(lambda: guarded.as_user("eye").ask("campaigns"))
    until(lambda: any('"three"' in json.dumps(line) for line in lab.history()))
    failing.kill()
    for command in ("pause", "resume"):
        guarded.as_user("boss").ask(command, row["campaign"])
    guarded.as_user("eye").ask("queues")
    first.send(signal.SIGTERM)
    assert first.wait() == 0
    assert guarded.refusals() == []
    lab.server.stop()
    lab.server.start()
    guarded.let_in()
    guarded.as_user("one").worker("one", *blobs, shard=0).wait_for("worker is ready")
    guarded.as_user("boss").ask("stop", row["campaign"])
    assert coordinator.wait() == 0, coordinator.output
    assert_identity(lab.summary())
    assert guarded.refusals() == []


def test_what_is_seldom_done_is_allowed_too(guarded: Guarded, device: redis.Redis) -> None:
    """Leftovers, sweeping, strange keys, the quarantine, a page that follows a campaign, a request to it."""
    blobs, place = guarded.admins[1], f":{guarded.second.port}"
    other = CampaignKeys("orphan-1")
    guarded.admin.set(other.incarnation, "e")
    guarded.admin.zadd("fedtide:campaigns", {"trial-1": 1, "orphan-1": 2, "expired-1": 3})
    guarded.admin.hset(other.head, mapping={"version": 1, "place": place})
    for server in guarded.admins:
        server.mset({other.version(1) + ":0": b"model", other.version(7) + ":0": b"forgotten"})
    guarded.admin.lpush("fedtide.train.default", b"doorbell")
    guarded.admin.hset(KEYS.feed, "of", "another type")
    guarded.admin.set(KEYS.writer, "somebody")
    with connect(guarded.url("chief")) as client:
        scripts.load(client)
        places = Places(client, [place])
        assert drop_strangers(client, KEYS, ["default"]) == [KEYS.feed]
        assert leftovers.sweep(places.at(place), other, [1]) == 1
        (orphan,) = leftovers.find_leftovers(client, places, [place], [])
        assert leftovers.drop_leftover(client, places, orphan)
        assert not blobs.exists(other.version(1) + ":0")
        leftovers.forget_expired(client, 10)
        assert Quarantine(client, KEYS).newest() == []
    with connect(guarded.url("eye")) as client:
        observer = Observer(client)
        observer.follow("trial-1")
        assert list(observer.poll().campaigns) == ["trial-1"]
        assert Quarantine(client, KEYS).newest() == []
    ended = CampaignKeys("ended-1")
    guarded.admin.zadd("fedtide:campaigns", {"ended-1": 4})
    guarded.admin.mset({KEYS.incarnation: "e", ended.incarnation: "ended", KEYS.order: ORDER, ended.order: ORDER})
    assert guarded.refusals() == []
    with connect(guarded.url("one")) as client:  # as `fedtide-worker --check` asks; how campaigns are is not for it
        assert [order.campaign for order in Registry(client).orders(["default"])] == ["trial-1"]
    assert {who for who, _ in guarded.refusals()} == {"one"}
    guarded.reset()
    with connect(guarded.url("boss")) as client:
        assert Registry(client).find("tri") == "trial-1"
        Registry(client).request("trial-1", "readmit", "1-1")
    assert guarded.refusals() == []


def _shown(row: Any) -> tuple[str, str]:
    found = dict(zip(row[::2], row[1::2], strict=True)) if isinstance(row, list) else row
    found = {_text(key): value for key, value in found.items()}
    return _text(found["username"]), _text(found["object"])


def _text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)


@pytest.fixture
def device(guarded: Guarded) -> Iterator[redis.Redis]:
    """A hostile device's client, beside a campaign that has a log, tasks, versions and another device's update."""
    keys = CampaignKeys("trial-1")
    admin = guarded.admin
    admin.xadd(keys.log, {"u": b"private"})
    admin.hset(keys.head, mapping={"version": 1, "digest": "00", "place": ""})
    admin.hset(keys.open_tasks, "task-1", "1|0|default")
    admin.hset(keys.owners, "task-1#1", "two|0")
    admin.rpush(keys.inbox, packed("u", b"private too"))
    admin.set(keys.fence, "1|token")
    admin.set(keys.order, b"order")
    admin.set(keys.version(1) + ":0", b"model")
    admin.set(keys.blob("two:task-1.1") + ":0", b"delta")
    admin.set("fedtide:enrolled:two", b"certificate")
    with connect(guarded.url("one")) as client:
        yield client


KEYS = CampaignKeys("trial-1")
ORDER = TrainOrder(
    campaign="trial-1", timeout_seconds=60.0, model_factory="fl_core.models:mlp", model_args={}, training={},
    layout_digest="ab" * 16, codec="fp32", sends="delta",
).to_bytes()  # fmt: skip
# The numbers are those of the attacks that worked while all shared one user; a1 and what is left of a4 and a6 are in
# test_attacks.py.
ATTACKS: dict[str, tuple[Any, ...]] = {
    "a2: stop a campaign": ("XADD", KEYS.control, "*", "request", "stop"),
    "a9: merge what was refused": ("XADD", KEYS.control, "*", "request", "readmit", "argument", "1"),
    "a3: read others' updates in the log": ("XRANGE", KEYS.log, "-", "+"),
    "a3: read others' updates as they come": ("XREAD", "STREAMS", KEYS.log, "0"),
    "a3: read others' payloads": ("GET", KEYS.blob("two:task-1.1") + ":0"),
    "a3: read payloads of whose name begins alike": ("GET", KEYS.blob("one2:task-1.1") + ":0"),
    "a3: read what waits for the coordinator": ("LRANGE", KEYS.inbox, "0", "-1"),
    "a3: take it out": ("LPOP", KEYS.inbox),
    "a3: take it elsewhere": ("LMOVE", KEYS.inbox, KEYS.said("one"), "LEFT", "RIGHT"),
    "a4: claim over another's claim": ("HSET", KEYS.owners, "task-1#1", "one|0"),
    "a4: undo another's claim": ("HDEL", KEYS.owners, "task-1#1"),
    "a4: replace another's payload": ("SET", KEYS.blob("two:task-1.1") + ":0", b"poison"),
    "a4: with one's own name at its end": ("SET", KEYS.blob("two:task-1.1.one") + ":0", b"poison"),
    "a8: say that another has answered": ("HSET", KEYS.said("two"), "task-1#1", "answered"),
    "read what was refused": ("XRANGE", KEYS.parked, "-", "+"),
    "a4: list open tasks": ("HGETALL", KEYS.open_tasks),
    "a4: list who has which task": ("HKEYS", KEYS.owners),
    "a5: replace the pointer": ("HSET", KEYS.head, "digest", "ff"),
    "a6: redirect devices": ("HSET", KEYS.head, "place", "evil.example:6379"),
    "a5: replace a version": ("SET", KEYS.version(1) + ":0", b"poison"),
    "a5: replace the order": ("SET", KEYS.order, b"poison"),
    "a7: shut the coordinator out": ("INCR", KEYS.fence),
    "a7: take the lease": ("SET", KEYS.writer, "me"),
    "a8: delete the log": ("DEL", KEYS.log),
    "a8: trim the log": ("XTRIM", KEYS.log, "MAXLEN", "0"),
    "a8: trim the log by adding to it": ("XADD", KEYS.log, "MAXLEN", "0", "*", "u", "x"),
    "a8: let the log end": ("EXPIRE", KEYS.log, "0"),
    "a8: write into the log": ("XADD", KEYS.log, "*", "u", "x"),
    "a8: empty the inbox": ("LTRIM", KEYS.inbox, "1", "0"),
    "a8: delete the inbox": ("DEL", KEYS.inbox),
    "a8: let the inbox end": ("EXPIRE", KEYS.inbox, "0"),
    "a8: write over what waits": ("LSET", KEYS.inbox, "0", "x"),
    "hold the server with a loop": ("EVAL", "while true do end", "0"),
    "load a loop for later": ("SCRIPT", "LOAD", "while true do end"),
    "load a loop as a function": ("FUNCTION", "LOAD", "REPLACE", scripts.LIBRARY),
    "drop everybody's functions": ("FUNCTION", "FLUSH"),
    "a8: delete a queue": ("DEL", "fedtide.train.default"),
    "ring for another class": ("LPUSH", "fedtide.train.gpu", b"doorbell"),
    "take from another class": ("BRPOP", "fedtide.train.gpu", "0.1"),
    "a8: close tasks": ("HDEL", KEYS.open_tasks, "task-1"),
    "empty the server": ("FLUSHALL",),
    "watch everybody": ("MONITOR",),
    "read settings": ("CONFIG", "GET", "*"),
    "make a user": ("ACL", "SETUSER", "friend", "on"),
    "list users": ("ACL", "LIST"),
    "close others' connections": ("CLIENT", "KILL", "TYPE", "normal"),
    "list keys": ("KEYS", "*"),
    "read another's certificate": ("GET", "fedtide:enrolled:two"),
    "ask in another's name": ("SET", "fedtide:enrol:two", b"request"),
    "publish revocations": ("SET", "fedtide:revocations", b""),
    "read who is a member": ("HGET", "fedtide:members", "two"),
    "make itself a member": ("HSET", "fedtide:members", "one", b"enrolled|device|9|ab|"),
    "run a script on the fence": (
        "EVAL", "return redis.call('INCR', KEYS[1])", "1", KEYS.fence
    ),
    "save the server's data elsewhere": ("CONFIG", "SET", "dir", "/"),
    "stop the server": ("SHUTDOWN", "NOSAVE"),
    "copy a key": ("COPY", KEYS.log, KEYS.blob("one:task-1.1") + ":0"),
    "publish": ("PUBLISH", "channel", "x"),
    "beat in another's name": ("HSET", "fedtide:d:two", "beat", b"forged"),
    "say what another holds": ("HSET", "fedtide:d:two", "row", "1|0a|"),
    "read what another says": ("HGET", "fedtide:d:two", "row"),
    "drop what another says": ("UNLINK", "fedtide:d:two"),
    "read the registers": ("ZREVRANGE", "fedtide:live:default", "0", "-1"),
    "drop others from a register": ("ZREMRANGEBYRANK", "fedtide:live:default", "0", "-1"),
    "let a register end": ("PEXPIRE", "fedtide:live:default", "1"),
    "drop a register": ("UNLINK", "fedtide:devices"),
    "register for another class": ("ZADD", "fedtide:live:gpu", "1", "one 0a"),
}  # fmt: skip


def test_a_hostile_device_is_refused(guarded: Guarded, device: redis.Redis) -> None:
    """Each of these had its effect while all shared one user."""
    _must_all_be_refused(guarded.url("one"), ATTACKS)
    scripts.load(guarded.admin)
    functions: dict[str, tuple[str, list[str], list[Any]]] = {
        "a7: take the lease": (scripts.ACQUIRE, [KEYS.writer, KEYS.fence, KEYS.commits], ["me", 1000, 0]),
        "a8: move the inbox": (
            scripts.INTAKE, [KEYS.writer, KEYS.fence, KEYS.commits, KEYS.inbox, KEYS.log, KEYS.bell],
            ["token", 1, "", "", 64, 10**6, 10**6],
        ),
        "a8: say that another has answered": (
            scripts.DELIVER,
            [KEYS.inbox, KEYS.bell, KEYS.open_tasks, KEYS.pins, KEYS.incarnation, KEYS.said("two")],
            ["task-1", 1, packed("u", b"forged")],
        ),
        "a8: drop what nobody coordinates": (scripts.DROP_ORPHANED, [KEYS.writer, KEYS.log], []),
    }  # fmt: skip
    for what, (name, keys, words) in functions.items():
        with pytest.raises(redis.exceptions.NoPermissionError):
            raise AssertionError(f"{what}: {Script(device, name)(keys, words)!r}")
    # What its work allows, and what it can do with that: add to what waits, and claim what nobody has.
    assert device.hsetnx(KEYS.owners, "task-1#1", "one|0") == 0
    assert device.execute_command("RPUSH", KEYS.inbox, b"nonsense") == 2
    assert guarded.admin.hgetall(KEYS.owners) == {b"task-1#1": b"two|0"}
    assert guarded.admin.get(KEYS.fence) == b"1|token"
    assert (guarded.admin.xlen(KEYS.log), guarded.admin.llen(KEYS.inbox)) == (1, 2)


# Of all three who are no devices: nothing of the server's own, no member's papers, no key that is not fedtide's.
ADMINISTRATION: dict[str, tuple[Any, ...]] = {
    "make a user": ("ACL", "SETUSER", "friend", "on"),
    "list users": ("ACL", "LIST"),
    "read passwords that stand in settings": ("CONFIG", "GET", "requirepass"),
    "save the server's data elsewhere": ("CONFIG", "SET", "dir", "/"),
    "stop the server": ("SHUTDOWN", "NOSAVE"),
    "empty the server": ("FLUSHALL",),
    "follow another server": ("REPLICAOF", "127.0.0.1", "1"),
    "watch everybody": ("MONITOR",),
    "close others' connections": ("CLIENT", "KILL", "TYPE", "normal"),
    "list keys": ("KEYS", "*"),
    "forget all scripts": ("SCRIPT", "FLUSH"),
    "read another program's key": ("GET", "other"),
    "write another program's key": ("SET", "other", "x"),
    "take a whole key out": ("DUMP", KEYS.order),
    "put a whole key in": ("RESTORE", KEYS.order, "0", b"x"),
    "publish revocations": ("SET", "fedtide:revocations", b""),
    "forget revocations": ("DEL", "fedtide:revocations"),
    "make somebody a member": ("HSET", "fedtide:members", "one", b"enrolled|device|9|ab|"),
    "read a member's certificate": ("GET", "fedtide:enrolled:two"),
    "ask in a device's name": ("SET", "fedtide:enrol:two", b"request"),
    "publish": ("PUBLISH", "channel", "x"),
}  # fmt: skip
# Of those who watch: what was refused, and what workers say, is shown to them.
WATCHERS: dict[str, tuple[Any, ...]] = (
    ATTACKS
    | ADMINISTRATION
    | {
        "add to the log": ("XADD", KEYS.log, "*", "e", "x"),
        "claim a task": ("HSETNX", KEYS.owners, "task-1#2", "me|0"),
        "take a task": ("BRPOP", "fedtide.train.default", "0.1"),
        "ring": ("LPUSH", "fedtide.train.default", b"doorbell"),
        "write a status": ("SET", KEYS.status, b"\x80"),
        "end a campaign": ("SET", KEYS.incarnation, "ended"),
        "read a version": ("GET", KEYS.version(1) + ":0"),
        "read the spec": ("GET", KEYS.spec),
        "beat": ("HSET", "fedtide:d:one", "beat", b"\x80"),
        "take a campaign off the list": ("ZREM", "fedtide:campaigns", "trial-1"),
    }
)
OF_OPERATORS = {"a2: stop a campaign", "a9: merge what was refused"}
AT_BLOBS: dict[str, dict[str, tuple[Any, ...]]] = {
    "one": {
        "read others' payloads": ("GET", KEYS.blob("task-1.1.two") + ":0"),
        "write others' payloads": ("SET", KEYS.blob("task-1.1.two") + ":0", b"x"),
        "drop others' payloads": ("UNLINK", KEYS.blob("task-1.1.two") + ":0"),
        "replace a version": ("SET", KEYS.version(1) + ":0", b"poison"),
        "drop a version": ("UNLINK", KEYS.version(1) + ":0"),
        "replace a patch": ("SET", KEYS.patch(1) + ":0", b"poison"),
        "see what there is": ("SCAN", "0"),
        "empty the server": ("FLUSHALL",),
        "read passwords that stand in settings": ("CONFIG", "GET", "requirepass"),
    },
    "chief": {
        "write in a device's name": ("SET", "fedtide:enrol:two", b"x"),
        "read another program's key": ("GET", "other"),
        "empty the server": ("FLUSHALL",),
        "make a user": ("ACL", "SETUSER", "friend", "on"),
        "read passwords that stand in settings": ("CONFIG", "GET", "requirepass"),
        "run a script": ("EVAL", "return 1", "0"),
    },
}


for shown in ("read what was refused", "read what another says", "read the registers"):
    del WATCHERS[shown]


def _must_all_be_refused(url: str, attacks: dict[str, tuple[Any, ...]]) -> None:
    with connect(url) as client:
        for what, words in attacks.items():
            try:
                answer = client.execute_command(*words)
            except redis.exceptions.NoPermissionError:
                continue
            raise AssertionError(f"{what}: {words[0]} gave {answer!r}")


def test_who_is_no_device_does_their_own_work_and_no_more(guarded: Guarded, device: redis.Redis) -> None:
    """A monitor writes nothing, an operator nothing but a request, a coordinator only what is a campaign's."""
    before = {key: guarded.admin.type(key) for key in guarded.admin.keys("*")}
    _must_all_be_refused(guarded.url("chief"), ADMINISTRATION)
    _must_all_be_refused(guarded.url("eye"), WATCHERS)
    watchers = {what: words for what, words in WATCHERS.items() if what not in OF_OPERATORS}
    _must_all_be_refused(guarded.url("boss"), watchers)
    for name, attacks in AT_BLOBS.items():
        _must_all_be_refused(f"redis://{name}:{PASSWORD}@127.0.0.1:{guarded.second.port}/0", attacks)
    assert {key: guarded.admin.type(key) for key in guarded.admin.keys("*")} == before
    for stranger in ("eye", "boss"):  # who moves no bytes has no business there
        with pytest.raises(redis.exceptions.AuthenticationError):
            redis.Redis.from_url(f"redis://{stranger}:{PASSWORD}@127.0.0.1:{guarded.second.port}/0").ping()
