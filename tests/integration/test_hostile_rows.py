"""Whatever the broker holds was written by somebody else: garbage under each key ends nobody who reads it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis
from click.testing import CliRunner

pytest.importorskip("starlette", reason="the extra `monitor` is not installed")

import coordinator.monitor.queues
from coordinator.cli import fedtide
from coordinator.launch.options import Callbacks, LaunchOptions
from coordinator.launch.run import lead
from coordinator.launch.surroundings import Surroundings
from coordinator.monitor import views
from coordinator.monitor.metrics import exposition
from coordinator.monitor.observer import Observer
from coordinator.storage.run_folder import RunFolder
from coordinator.storage.strict_json import strict_json
from coordinator.terminal.top import choose, gather, picture
from fl_core.broker import keys, rows, scripts
from fl_core.broker.bulk import patches, versions
from fl_core.broker.bulk.places import Places
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.connection import connect
from fl_core.broker.doorbell.removal import remove_doorbells
from fl_core.broker.line.reply_bound import BoundedParser, ReplyTooLong
from fl_core.broker.overview.queues import MAX_QUEUES, Queues
from fl_core.broker.overview.registry import Registry
from fl_core.broker.overview.roster import Roster
from fl_core.broker.overview.strangers import drop_strangers
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.broker.task_rows import Owner
from fl_core.broker.tasks import TaskBroker
from fl_core.errors import BrokerError, BrokerUnfit, FedtideError
from fl_core.spec import CampaignSpec
from fl_core.wire.messages import Beat, ModelUpdate, TrainTask
from fl_core.wire.status import Status
from tests.integration.lab import SPEC, until
from tests.integration.test_monitor import STATUS

CAMPAIGN = "digits-1"
KEYS = keys.CampaignKeys(CAMPAIGN)
TYPES = KEYS.types() | keys.SHARED_TYPES | {
    keys.train_queue("default"): "list", keys.live("default"): "zset", keys.device("w0"): "hash",
}  # fmt: skip
TASK = "1-aaaaaaaaaaaa"

_deep: Any = 1
for _ in range(400):
    _deep = [_deep]

POISONS: dict[str, bytes] = {
    "not UTF-8": b"\xff\xfe\x00\x80",
    "empty": b"",
    "markup": b"[/nope]",
    "an escape sequence": b"\x1b]0;mine\x07\x1b[2J",
    "a number too large": b"9" * 400,
    "a negative number": b"-1",
    "words": b"a|b|c|d|e|f",
    "numbers and not UTF-8": b"1|2|0|\xff",
    "numbers too large": b"1|" + b"9" * 30 + b"|1|w",
    "a place elsewhere": b"99999999999999|example.org",
    "deep": msgpack.packb(_deep),
    "infinite": msgpack.packb({"state": "running", "issued": float("inf"), "final_loss": 1e308, "timing": {"sums": 1}}),
    "a foreign status": msgpack.packb({"state": "running", "rejected": 7, "fruitless": 1, "timing": {"sums": []}}),
    "a foreign beat": msgpack.packb({"v": 1, "worker": "[red]x"}),
    "long": b"x" * (2 * rows.MAX_STRING_BYTES),
}  # fmt: skip
# What rows are asked for by name.
FIELDS: dict[str, list[str]] = {
    KEYS.head: ["version", "digest", "num_bytes", "num_chunks", "place", "updates", "codec"],
    KEYS.open_tasks: [TASK], KEYS.owners: [f"{TASK}#1"], KEYS.pins: [TASK], KEYS.versions: ["1"],
    KEYS.patches: ["ab" * 16], keys.device("w0"): ["row", "beat"],
    keys.QUEUE_COUNTS: ["default:published", "default:claimed", "default:recent", "default:wait0", "default:waited_ms"],
}  # fmt: skip
STREAM_FIELDS = {
    KEYS.log: "u", KEYS.bell: "x", KEYS.control: "request", KEYS.feed: "l", KEYS.parked: "task",
}  # fmt: skip
TRAIN = TrainTask(
    campaign=CAMPAIGN, task_id=TASK, attempt=1, queue="default", timeout_seconds=60.0,
    model_factory="fl_core.models:mlp", model_args={}, layout_digest="ab" * 16, training={}, codec="fp32",
    sends="delta",
)  # fmt: skip


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedServer(Path(tmp_path_factory.mktemp("broker")), persistent=False) as server:
        scripts.load(connect(server.url))
        yield server.url


def _furnish(client: redis.Redis) -> None:
    """A broker in which each key holds what it should."""
    client.flushall()
    client.zadd(keys.CAMPAIGNS, {CAMPAIGN: 1, "digits-0": 0})
    for name in (CAMPAIGN, "digits-0"):
        client.set(keys.CampaignKeys(name).status, msgpack.packb({**STATUS, "campaign": name}))
    client.hset(KEYS.open_tasks, TASK, "1|1|default")
    client.hset(KEYS.head, mapping={"version": 1, "digest": "ab" * 16, "num_bytes": 4, "num_chunks": 1})
    client.hset(keys.QUEUE_COUNTS, mapping={"default:published": 3, "default:claimed": 1, "gpu:published": 1})
    _beat(client)


def _beat(client: redis.Redis) -> None:
    beat = Beat(worker="w0", state="idle", queues=("default",), holding="", host="h", pid=1, started_ms=1, threads=1,
                device="cpu", num_done=0, num_failed=0, bytes_up=0, bytes_down=0)  # fmt: skip
    Roster(client).beat(beat)


def _poison(client: redis.Redis, key: str, poison: bytes, like: str = "") -> None:
    """Put it wherever a key like that holds something."""
    like = like or key
    match TYPES[like]:
        case "string":
            client.set(key, poison)
        case "hash":
            for field in (*FIELDS.get(like, []), poison, poison[:100] + b":published"):
                client.hset(key, field, poison)
        case "zset":
            client.zadd(key, {poison: float("inf"), poison + b"1": 1e308, poison + b"2": -1})
        case "list":
            client.rpush(key, poison)
        case "set":
            client.sadd(key, poison)
        case "stream":
            client.xadd(key, {poison: poison})
            client.xadd(key, {STREAM_FIELDS[like]: poison, "n": poison, "p": poison, "ms": poison, "bytes": poison})
            client.xadd(key, {STREAM_FIELDS[like]: poison, "n": b"1.%d" % len(poison), "p": b"1-1", "detail": poison})


def _another_type(client: redis.Redis, key: str, like: str = "") -> None:
    client.delete(key)
    client.sadd(key, "x") if TYPES[like or key] != "set" else client.set(key, "x")


def _watch(url: str) -> None:
    """All that watchers show, as they show it."""
    observer = Observer(connect(url, timeout_seconds=5))
    seen = observer.poll()
    for campaign in seen.campaigns:
        observer.follow(campaign)
        track = observer.track(campaign)
        assert track is not None
        pages = [views.overview(observer, seen), views.campaign_now(seen, campaign), track.series()]
        page = views.worker_page(seen, track, queues=None, page=0, size=50, sort="-updates", search="")
        for shown in (*pages, page, views.queue_series(observer)):
            json.loads(strict_json(shown), parse_constant=pytest.fail)
        picture(gather(observer, campaign), 100)
    picture(gather(observer, choose(seen)), 100)
    metrics = exposition(observer).decode()
    assert "fedtide_broker_up 1.0" in metrics
    assert 'fedtide_tasks_issued_total{campaign="digits-0"} 4.0' in metrics or "digits-0" not in seen.campaigns


def _ask(url: str) -> None:
    """Each command of the CLI that reads: rows, or one sentence and exit code 2; and no control characters."""
    for words in (["campaigns"], ["status", CAMPAIGN], ["queues"], ["workers"], ["rejected", CAMPAIGN],
                  ["rejected", CAMPAIGN, "--show", "1"], ["top", CAMPAIGN]):  # fmt: skip
        for more in ([], ["--json"]):
            if words[0] == "top" and not more:
                continue
            done = CliRunner().invoke(fedtide, [*words, *more, "--broker", url])
            assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.exception)
            assert done.exit_code in (0, 2), (words, done.output)
            assert done.output.replace("\n", "").isprintable(), (words, done.output)
            if more and not done.exit_code:
                json.loads(done.stdout, parse_constant=pytest.fail)


def _coordinate(url: str) -> None:
    """What a coordinator reads of its campaign."""
    client = connect(url)
    broker, places = CampaignBroker(client, CAMPAIGN), Places(client)
    reads: list[Callable[[], object]] = [
        broker.incarnation, broker.status, broker.lost_payloads, broker.quarantine.newest, broker.log_end,
        broker.all_owners, broker.trimmed, broker.holder,
        lambda: broker.owners({TASK: 1}), lambda: broker.said({f"{TASK}#1": Owner("w0", 0)}),
        lambda: broker.quarantine.find("1-1"), lambda: broker.depth("default"),
        lambda: versions.droppable(client, KEYS, 2), lambda: versions.read_head(client, KEYS),
        lambda: patches.drop_old_patches(client, places, KEYS, 1000),
        lambda: Roster(client).lookup(["w0"]), lambda: Roster(client).present(),
        lambda: Roster(client).count_live(["default"]), lambda: list(Roster(client).serving("default", max_workers=9)),
        lambda: Roster(client).forget_silent(["default"]), lambda: remove_doorbells(client, CAMPAIGN, ["default"], 10),
        lambda: Queues(client).read(["default"]),
    ]  # fmt: skip
    for read in reads:
        try:
            read()
        except BrokerError as error:
            assert "\n" not in str(error)
            assert drop_strangers(client, broker.keys, ["default"])


def _work(url: str) -> None:
    """What a device reads of a campaign."""
    broker = TaskBroker(connect(url), "w0")
    update = ModelUpdate(
        campaign=CAMPAIGN, task_id=TASK, attempt=1, worker="w0", base_version=1, num_examples=1, sends="delta",
        codec="fp32", layout_digest="ab" * 16, payload_bytes=0, payload_digest="ab" * 16, blob="", num_chunks=0,
        bytes_down=0, metrics={}, seconds={},
    )  # fmt: skip
    for read in (
        lambda: broker.claim(TRAIN, "ab" * 16),
        lambda: broker.is_wanted(TRAIN),
        lambda: broker.deliver(update, b""),
    ):
        try:
            read()
        except FedtideError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("key", TYPES, ids=lambda key: key.rpartition("}:")[2])
def test_garbage_under_a_key_ends_nobody(url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row is skipped; a key of another type is one sentence, and only the coordinator drops it."""
    monkeypatch.setattr(coordinator.monitor.queues, "SAMPLE_SECONDS", 0.0)
    client = connect(url)
    for poison in POISONS.values():
        _furnish(client)
        _poison(client, key, poison)
        _watch(url)
        _coordinate(url)
        _work(url)
    _furnish(client)
    for poison in POISONS.values():
        _poison(client, key, poison)
    _ask(url)
    _furnish(client)
    _another_type(client, key)
    _ask(url)
    _work(url)
    _coordinate(url)
    drop_strangers(client, KEYS, ["default"])
    _beat(client)  # a worker takes back what is its own
    assert client.type(key).decode() in ("none", TYPES[key])
    _watch(url)


def test_a_stream_that_ends_where_no_clock_will_be_is_dropped(url: str) -> None:
    """Behind the last position that there is nothing can be written: the log would be deaf for good."""
    client = connect(url)
    _furnish(client)
    for key in (KEYS.log, KEYS.control, KEYS.feed, KEYS.parked, KEYS.bell):
        client.xadd(key, {"u": "x"}, id="18446744073709551615-18446744073709551615")
    assert len(drop_strangers(client, KEYS, ["default"])) == 5
    client.xadd(KEYS.log, {"u": "x"})


def test_a_key_of_very_many_rows_is_not_read(url: str) -> None:
    """A register with a million invented queues, or one huge value, costs a look and not the memory of each reader."""
    client = connect(url)
    _furnish(client)
    client.eval(
        "for i = 1, 300000 do redis.call('HSET', KEYS[1], 'invented' .. i .. ':published', '99') end",
        1,
        keys.QUEUE_COUNTS,
    )
    found = {queue.name: queue.published for queue in Queues(client).read(["default"])}
    assert found == {"default": 3}
    client.hset(KEYS.owners, f"{TASK}#1", b"x" * (rows.MAX_KEY_BYTES + 2**20))
    with pytest.raises(BrokerUnfit, match="somebody has filled it"):
        CampaignBroker(client, CAMPAIGN).owners({TASK: 1})
    assert drop_strangers(client, KEYS, ["default"]) == [KEYS.owners]
    client.set(KEYS.status, b"x" * (rows.MAX_KEY_BYTES + 2**20))
    assert Registry(client).status(CAMPAIGN) == Status()


def test_invented_queues_do_not_push_out_those_that_are_served(url: str) -> None:
    """What is shown of queues is bounded, and begins with those that somebody serves."""
    client = connect(url)
    _furnish(client)
    client.hset(keys.QUEUE_COUNTS, mapping={f"q{n}:published": 10**6 for n in range(5_000)})
    observer = Observer(client)
    seen = observer.poll()
    assert len(seen.queues) == MAX_QUEUES
    assert "default" in {queue.name for queue in seen.queues}
    assert len(exposition(observer)) < 1_000_000


def _tasks(client: Any, out: str) -> list[bytes]:
    """The campaign's open tasks, once the coordinator has dropped what was longer than a reply may be."""
    try:
        return list(client.hkeys(out))
    except ReplyTooLong:
        return []


def test_a_coordinator_lives_on_and_takes_its_keys_back(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Garbage in all that it reads, some longer than any reply may be, then another type under all of its keys: it goes
    on, and has tasks out."""
    client = connect(url)
    client.flushall()  # its own connection is bounded as ever
    monkeypatch.setattr(BoundedParser, "limit", 3 * rows.MAX_STRING_BYTES // 2)
    monkeypatch.setattr("fl_core.broker.log.MAX_ENTRY_BYTES", rows.MAX_STRING_BYTES // 2)
    monkeypatch.setattr(rows, "MAX_KEY_BYTES", 3 * rows.MAX_STRING_BYTES // 2)
    spec = CampaignSpec.model_validate({**SPEC, "stop": {}})
    ended: list[object] = []
    begun: list[str] = []

    def coordinate() -> None:
        try:
            fleet: Any = type("NoFleet", (), {"check": lambda self: None})()
            told = Callbacks(on_launch=lambda campaign, *_: begun.append(campaign))
            lead(spec, RunFolder(tmp_path / "run"), Surroundings(url, fleet), LaunchOptions(), told)
            ended.append("stopped")
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=coordinate, daemon=True)
    thread.start()
    until(lambda: begun or ended)
    assert not ended, ended
    mine = keys.CampaignKeys(begun[0])

    def is_well() -> bool:
        assert not ended, ended
        status = Registry(client).status(begun[0])
        fresh = (status.written_ms or 0) > time.time() * 1000 - 1500
        return bool(fresh and client.hlen(mine.open_tasks) >= 4 and client.hget(mine.head, "version"))

    until(is_well)
    others = (KEYS.spec, keys.device("w0"))  # which its worker takes back
    theirs = {key.replace(f"{{{CAMPAIGN}}}", f"{{{begun[0]}}}"): key for key in TYPES if key not in others}
    # Who leads is what these say: whoever writes them as they should be is a coordinator.
    lease = (mine.incarnation, mine.writer, mine.fence, mine.commits)
    for poison in POISONS.values():
        for key in theirs.keys() - lease:
            _poison(client, key, poison, theirs[key])
    tasks: list[bytes] = until(lambda: _tasks(client, mine.open_tasks))
    for task in tasks:
        client.hset(mine.owners, f"{task.decode(errors='replace')}#1", b"w|\xff")
    time.sleep(2.0)
    until(is_well)
    for key in theirs:
        _another_type(client, key, theirs[key])
    until(lambda: all(client.type(key).decode() in ("none", TYPES[like]) for key, like in theirs.items()))
    until(is_well)
    Registry(client).request(begun[0], "stop")
    thread.join(30)
    assert ended == ["stopped"]


def test_no_bytes_break_a_reader() -> None:
    """A second of the fuzzer: each reader gives plain values or refuses, and has seen some that it takes."""
    from tests.fuzz.fuzz_readers import fuzz

    given = fuzz(1.0, seed=1)
    assert all(given.values()), given
