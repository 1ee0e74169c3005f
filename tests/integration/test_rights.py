"""Users with the rights of their work: a whole campaign asks for nothing more, and a hostile device gets no more.

On the server of the ``embedded`` extra, and on a ``redis-server`` where one is on the PATH: the two differ in what
their ACL knows.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from fl_core.broker.access import rules
from fl_core.broker.access.users import User, remove_users, set_users
from fl_core.broker.connection import connect
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.server.binary import bundled_binary
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.identity.enrolment import password_hash
from tests.integration.lab import Lab, assert_identity, until

PASSWORD = "of-the-test"
KINDS = ("bundled", "redis-server")


def _users() -> dict[str, list[str]]:
    names = ("one", "two", "three")
    found = {name: rules.device(name, ("default",)) for name in names}
    return found | {"boss": rules.operator(), "eye": rules.monitor(), "chief": rules.coordinator()}


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
        for admin in self.admins:
            set_users(admin, [User(name, (hashed,), granted) for name, granted in _users().items()])

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

    def refusals(self) -> list[Any]:
        """What the servers have refused so far, by user and object."""
        return [row for admin in self.admins for row in admin.execute_command("ACL", "LOG")]


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
    for command in ("queues", "status", "rejected"):
        guarded.as_user("eye").ask(command, *([row["campaign"]] if command != "queues" else []))
    first.send(signal.SIGTERM)
    assert first.wait() == 0
    assert guarded.refusals() == []
    lab.server.stop()
    lab.server.start()
    guarded.let_in()
    guarded.admin.execute_command("ACL", "LOG", "RESET")
    guarded.as_user("one").worker("one", *blobs, shard=0).wait_for("worker is ready")
    guarded.as_user("boss").ask("stop", row["campaign"])
    assert coordinator.wait() == 0, coordinator.output
    assert_identity(lab.summary())
    assert [_shown(one) for one in guarded.refusals() if _shown(one)[1] != "AUTH"] == []


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
    admin.hset(keys.owners, "task-1", "1|0|0|two")
    admin.set(keys.fence, "1|token")
    admin.set(keys.order, b"order")
    admin.set(keys.version(1) + ":0", b"model")
    admin.set(keys.blob("task-1.1.two") + ":0", b"delta")
    admin.set("fedtide:enrolled:two", b"certificate")
    with connect(guarded.url("one")) as client:
        yield client


KEYS = CampaignKeys("trial-1")
ATTACKS: dict[str, tuple[Any, ...]] = {
    "stop a campaign": ("XADD", KEYS.control, "*", "request", "stop"),
    "merge what was refused": ("XADD", KEYS.control, "*", "request", "readmit", "argument", "1"),
    "read others' updates in the log": ("XRANGE", KEYS.log, "-", "+"),
    "read others' updates by a reader's group": ("XREAD", "STREAMS", KEYS.log, "0"),
    "read others' payloads": ("GET", KEYS.blob("task-1.1.two") + ":0"),
    "read what was refused": ("XRANGE", KEYS.parked, "-", "+"),
    "list open tasks": ("HGETALL", KEYS.open_tasks),
    "list who has which task": ("HKEYS", KEYS.owners),
    "replace the pointer": ("HSET", KEYS.head, "digest", "ff"),
    "redirect devices": ("HSET", KEYS.head, "place", "evil.example:6379"),
    "replace a version": ("SET", KEYS.version(1) + ":0", b"poison"),
    "replace the order": ("SET", KEYS.order, b"poison"),
    "shut the coordinator out": ("INCR", KEYS.fence),
    "take the lease": ("SET", KEYS.writer, "me"),
    "delete the log": ("DEL", KEYS.log),
    "trim the log": ("XTRIM", KEYS.log, "MAXLEN", "0"),
    "delete a queue": ("DEL", "fedtide.train.default"),
    "ring for another class": ("LPUSH", "fedtide.train.gpu", b"doorbell"),
    "take from another class": ("BRPOP", "fedtide.train.gpu", "0.1"),
    "close tasks": ("HDEL", KEYS.open_tasks, "task-1"),
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
    "run a script on the fence": (
        "EVAL", "return redis.call('INCR', KEYS[1])", "1", KEYS.fence
    ),
    "save the server's data elsewhere": ("CONFIG", "SET", "dir", "/"),
    "stop the server": ("SHUTDOWN", "NOSAVE"),
    "copy a key": ("COPY", KEYS.log, KEYS.blob("task-1.1.one") + ":0"),
    "publish": ("PUBLISH", "channel", "x"),
}  # fmt: skip


def test_a_hostile_device_is_refused(guarded: Guarded, device: redis.Redis) -> None:
    """Each of these had its effect while all shared one user."""
    for what, words in ATTACKS.items():
        try:
            answer = device.execute_command(*words)
        except redis.exceptions.NoPermissionError:
            continue
        raise AssertionError(f"{what}: {words[0]} gave {answer!r}")
    scripts: list[Callable[[], Any]] = [
        lambda: device.eval("return redis.call('INCR', KEYS[1])", 1, KEYS.fence),
    ]
    for attempt in scripts:
        with pytest.raises(redis.ResponseError):
            attempt()
    assert guarded.admin.get(KEYS.fence) == b"1|token"
    assert guarded.admin.xlen(KEYS.log) == 1


def test_a_monitor_reads_and_an_operator_asks(guarded: Guarded, device: redis.Redis) -> None:
    """And neither does more: no log, no version, no user is theirs."""
    asked = {"eye": redis.exceptions.NoPermissionError, "boss": None}
    for name, refused in asked.items():
        with connect(guarded.url(name)) as client:
            assert client.hget(KEYS.head, "version") == b"1"
            for words in (
                ("SET", KEYS.writer, "me"), ("XADD", KEYS.log, "*", "e", "x"), ("HSET", KEYS.head, "digest", "ff"),
                ("DEL", KEYS.log), ("ACL", "LIST"), ("FLUSHDB",), ("BRPOP", "fedtide.train.default", "0.1"),
                ("SET", "fedtide:revocations", b""),
            ):  # fmt: skip
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*words)
            if refused is None:
                client.xadd(KEYS.control, {"request": "pause"})
            else:
                with pytest.raises(refused):
                    client.xadd(KEYS.control, {"request": "pause"})
    with connect(guarded.url("chief")) as client:
        for chief in (
            ("ACL", "SETUSER", "friend", "on"),
            ("FLUSHALL",),
            ("CONFIG", "SET", "dir", "/"),
            ("GET", "other"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*chief)


def test_a_device_that_was_removed_is_cut_off_and_its_worker_ends(guarded: Guarded) -> None:
    """Its connections close at once, its task is done by another one, and it says why it ended, with code 2."""
    lab = guarded.as_user("chief")
    coordinator = lab.run(lab.spec(stop={"updates": 12}, dispatch={"concurrency": 2, "lease_seconds": 3.0}))
    worker = guarded.as_user("one").worker("one", shard=0, delay=1.5)
    until(lambda: any(row["holding"] for row in guarded.as_user("eye").ask("workers")))
    remove_users(guarded.admin, ["one"])
    guarded.as_user("two").worker("two", shard=1)
    assert coordinator.wait() == 0, coordinator.output
    assert_identity(lab.summary())
    worker.wait_for("the broker refuses this worker", seconds=20)
    worker.send(signal.SIGTERM)
