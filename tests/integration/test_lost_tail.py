"""A server that has less than the coordinator remembers: noticed within seconds, mended, and nothing stands still."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from fl_core.broker import keys, scripts
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.connection import connect
from fl_core.broker.inbox import packed
from fl_core.broker.lease import Writer
from fl_core.broker.overview.feed import read_feed
from fl_core.broker.scripts import Script
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.broker.tasks import TaskBroker
from fl_core.errors import BrokerUnavailable
from fl_core.wire.feed_lines import MergesLine
from fl_core.wire.log_entry import LogEntry
from tests.integration.lab import assert_identity, until
from tests.integration.stage import WORKER, Device, Snapshot, Stage, call_of

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("broker")) as server:
        yield server


@pytest.fixture
def url(server: EmbeddedServer) -> str:
    redis.Redis.from_url(server.url).flushall()
    return server.url


@pytest.fixture
def device(url: str) -> Iterator[Device]:
    device = Device(url)
    yield device
    device.close()


def _go_back(stage: Stage, seconds: float) -> None:
    snapshot = Snapshot(stage.client)
    time.sleep(seconds)
    snapshot.restore()


def _lose_what_workers_wrote(stage: Stage) -> None:
    """Entries vanish from the log's end, between two commits."""
    stage.client.xtrim(stage.keys.log, maxlen=0, approximate=False)


def _go_back_to_smaller_ids(stage: Stage) -> None:
    """The log was an hour ahead of the server's clock, and then everything is gone: its clock went back."""
    for stream in (stage.keys.log, stage.keys.control):
        stage.client.xadd(stream, {"x": ""}, id=f"{time.time_ns() // 10**6 + HOUR_MS}-0")
    time.sleep(0.5)
    stage.client.flushdb()


def _lose_the_version(stage: Stage) -> None:
    """Its bytes go, and the pointer to them stays."""
    stage.client.delete(f"{stage.keys.version(int(stage.client.hget(stage.keys.head, 'version') or 0))}:0")


FAULTS: dict[str, Callable[[Stage], object]] = {
    "it goes back by a second": lambda stage: _go_back(stage, 1.0),
    "it goes back by a moment": lambda stage: _go_back(stage, 0.05),
    "the newest version's bytes are gone": _lose_the_version,
    "it is empty": lambda stage: stage.client.flushdb(),
    "its functions are gone": lambda stage: stage.client.function_flush("SYNC"),
    "the end of the log is gone": _lose_what_workers_wrote,
    "ids start again below those that were read": _go_back_to_smaller_ids,
    **{
        f"{name} is gone": lambda stage, name=name: stage.client.delete(getattr(stage.keys, name))
        for name in (
            "log",
            "open_tasks",
            "owners",
            "inbox",
            "bell",
            "order",
            "head",
            "incarnation",
            "fence",
            "writer",
            "commits",
            "control",
            "status",
        )
    },
}


@pytest.mark.parametrize("strategy", ["fedbuff", "fedavg"])
def test_whatever_the_server_forgets_no_task_is_left_behind(
    url: str, device: Device, tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One life through all losses in turn: after each, every task that was out ends, and at the end it hears stop."""
    monkeypatch.setattr("coordinator.outgoing.bells.GRACE_SECONDS", 0.5)
    stage = Stage(url, tmp_path, aggregation={"strategy": strategy} if strategy == "fedavg" else {"buffer_size": 2})
    stage.assert_alive()
    for name, fault in FAULTS.items():
        fault(stage)
        try:
            stage.assert_alive()
        except AssertionError as error:
            raise AssertionError(f"after {name}: {error}") from error
    assert_identity(stage.stop())


def test_nobody_else_s_lease_is_made_up_and_a_dead_one_is_waited_out(url: str, device: Device, tmp_path: Path) -> None:
    """The server goes back to a moment at which a coordinator that is dead by now had the lease."""
    stage = Stage(url, tmp_path)
    stage.assert_alive()
    with stage.client.pipeline() as rollback:  # at once, as a server goes back
        rollback.set(stage.keys.writer, "elsewhere:1:dead", px=3000)
        rollback.set(stage.keys.fence, "0|elsewhere:1:dead")
        rollback.execute()
    stage.assert_alive()
    stage.stop()


def test_a_cable_cut_while_it_is_mended_makes_no_rival(
    url: str, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is taken anew and the answer gets lost, once and again: it meets its own lease, and goes on."""
    stage = Stage(url, tmp_path)
    stage.assert_alive()
    real, cuts = Writer.acquire, iter(range(3))

    def acquire(writer: Writer, floor: int) -> bool:
        fence, taken = writer.fence, real(writer, floor)
        if next(cuts, None) is None:
            return taken
        writer.fence = fence  # nobody has heard of the new one
        raise BrokerUnavailable("taking the lease: the cable was cut")

    monkeypatch.setattr(Writer, "acquire", acquire)
    stage.client.flushdb()
    stage.assert_alive()
    assert next(cuts, None) is None
    stage.stop()


def test_it_hears_ctrl_c_while_the_server_forgets_again_and_again(url: str, tmp_path: Path) -> None:
    """Evicted as fast as it is written: the campaign cannot go on, but it can be ended and resumed."""
    stage = Stage(url, tmp_path)
    until(lambda: stage.progress)
    ends = time.monotonic() + 1.0
    while time.monotonic() < ends:
        stage.client.delete(stage.keys.incarnation)
    stage.interrupt()


# -- eviction ------------------------------------------------------------------------------------------------------


def _fill(client: redis.Redis, evicted: int) -> None:
    """Write until the server has evicted more than so many keys."""
    for n in range(100_000):
        if client.info("stats")["evicted_keys"] > evicted:
            return
        client.set(f"ballast:{n}", b"x" * 50_000)
    raise AssertionError("nothing was evicted")


def test_a_server_that_begins_to_evict_is_named_and_the_campaign_goes_on(
    url: str, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policy is changed while the campaign runs: told once, blamed for what is gone, and no rival is invented."""
    monkeypatch.setattr("coordinator.loop.evictions.LOOK_SECONDS", 0.2)
    words: list[str] = []
    stage = Stage(url, tmp_path)
    stage.assert_alive()
    client = stage.client
    try:
        client.config_set("maxmemory-policy", "allkeys-random")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 2_000_000)
        _fill(client, evicted=client.info("stats")["evicted_keys"] + 40)
        stage.client.delete(stage.keys.fence)  # among the evicted ones, to be sure
        until(lambda: "it has evicted" in (words.append(capsys.readouterr().out) or "".join(words)))
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
    stage.assert_alive()
    stage.stop()
    said = "".join(words) + capsys.readouterr().out
    assert said.count("the broker evicts keys when it is full") == 1
    assert "has passed to another" not in said


# -- answers that are none -----------------------------------------------------------------------------------------


def _answer_unreadably(client: redis.Redis, stage: Stage, message: bytes) -> None:
    task, campaign = call_of(message), stage.keys
    assert TaskBroker(client, WORKER).claim(task, "").verdict == "ok"
    names = [campaign.inbox, campaign.bell, campaign.open_tasks, campaign.pins, campaign.incarnation]
    names.append(campaign.said(WORKER))
    words = [task.task_id, task.attempt, packed("u", b"of another release")]
    Script(client, scripts.DELIVER)(names, words)


def test_an_answer_that_cannot_be_read_is_no_answer_in_the_next_life(url: str, tmp_path: Path) -> None:
    """Every task is marked as answered, and the log has ended none: a coordinator that resumes opens them again."""
    stage = Stage(url, tmp_path, dispatch={"concurrency": 4, "lease_seconds": 2.0})
    client, queue = connect(url), keys.train_queue("default")
    for message in until(lambda: client.llen(queue) >= 4 and client.lrange(queue, 0, -1)):
        _answer_unreadably(client, stage, message)
    client.delete(queue)
    stage.interrupt()
    stage = Stage(url, tmp_path, resume=True)
    with_answers = Device(url)
    stage.assert_alive()
    with_answers.close()
    summary = stage.stop()
    assert_identity(summary)
    assert summary["reissued"] == 0


# -- the server's clock --------------------------------------------------------------------------------------------


def test_a_jump_of_the_server_s_clock_ends_nothing_and_holds_up_nothing(
    url: str, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour forward: stop.seconds, max_wait_seconds, tasks and doorbells go by campaign time."""
    monkeypatch.setattr("coordinator.outgoing.bells.GRACE_SECONDS", 0.5)
    skew, real, positions = 0, CampaignBroker.clock_ms, LogEntry.milliseconds
    monkeypatch.setattr(CampaignBroker, "clock_ms", lambda broker: real(broker) + skew)
    monkeypatch.setattr(LogEntry, "milliseconds", property(lambda entry: positions.fget(entry) + skew))
    aggregation = {"buffer_size": 1000, "max_wait_seconds": 0.5}
    stage = Stage(url, tmp_path, stop={"seconds": 600.0}, aggregation=aggregation)
    stage.assert_alive()
    device.idle.set()
    stage.client.delete(keys.train_queue("default"))
    skew = HOUR_MS
    until(lambda: stage.client.llen(keys.train_queue("default")) == 8)
    device.idle.clear()
    stage.assert_alive()
    summary = stage.stop()
    assert_identity(summary)
    assert 0 < summary["wall_seconds"] < 300
    assert summary["stop_reason"] == "asked"


def test_what_is_applied_again_is_not_told_again(url: str, device: Device, tmp_path: Path) -> None:
    """A resumed coordinator that replays the whole log leaves each update in the monitors' feed once."""
    checkpoint = {"keep_log": True, "every_merges": 10**6, "every_seconds": 600.0, "every_log_bytes": 2**30}
    stage = Stage(url, tmp_path / "first", checkpoint=checkpoint)
    stage.assert_alive()
    shutil.copytree(tmp_path / "first", tmp_path / "second")  # as a crash leaves it
    stage.interrupt()
    stage = Stage(url, tmp_path / "second", resume=True)
    stage.assert_alive()
    merged = stage.stop()["merged"]
    lines = [line for entry in read_feed(stage.client, stage.keys, "0-0", 10_000)[0] for line in entry.lines]
    assert sum(line.updates for line in lines if isinstance(line, MergesLine)) == merged
