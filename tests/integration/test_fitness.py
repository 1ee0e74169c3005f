"""check_broker against real servers, each wrong in one way."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from coordinator.cli import fedtide
from fl_core.broker.connection import connect
from fl_core.broker.server import answering, fitness
from fl_core.broker.server.binary import find_binary
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.broker.server.fitness import Finding, check_blobs, check_broker

NAMES = [
    "reachable",
    "server",
    "role",
    "persistence",
    "flushing",
    "eviction",
    "memory",
    "connections",
    "clock",
    "latency",
]
BLOBS_NAMES = [
    f"blobs {name}"
    for name in ("reachable", "server", "identity", "role", "persistence", "eviction", "memory", "latency")
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("broker")) as server:
        yield server


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("blobs"), persistent=False) as server:
        yield server


@pytest.fixture
def client(shared: EmbeddedServer) -> Iterator[redis.Redis]:
    yield from _restored(shared)


@pytest.fixture
def blobs(second: EmbeddedServer) -> Iterator[redis.Redis]:
    yield from _restored(second)


def _restored(server: EmbeddedServer) -> Iterator[redis.Redis]:
    """A client whose changes of the server's settings are taken back."""
    settings = ("maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "maxclients", "save")
    with redis.Redis.from_url(server.url, decode_responses=True) as administrator, connect(server.url) as client:
        before = administrator.config_get(*settings)
        yield client
        administrator.replicaof("NO", "ONE")
        after = administrator.config_get(*settings)
        for key in settings:
            if after[key] != before[key]:
                administrator.config_set(key, before[key])


def _find(client: redis.Redis, name: str, need_bytes: int | None = None) -> Finding:
    (finding,) = [finding for finding in check_broker(client, need_bytes) if finding.name == name]
    return finding


def _find_blobs(blobs: redis.Redis, broker: redis.Redis, name: str, need_bytes: int | None = None) -> Finding:
    (finding,) = [finding for finding in check_blobs(blobs, broker, need_bytes) if finding.name == f"blobs {name}"]
    return finding


def test_a_good_server_passes_everything(client: redis.Redis) -> None:
    """Our own embedded server has nothing to complain about, and no finding that is ok has a remedy."""
    findings = check_broker(client, need_bytes=1_000_000)
    assert [finding.name for finding in findings] == NAMES
    assert {finding.verdict for finding in findings} == {"ok"}
    assert not any(finding.remedy for finding in findings)


def test_a_client_that_decodes_sees_the_same(shared: EmbeddedServer, client: redis.Redis) -> None:
    """It makes no difference whether the client returns bytes or text."""
    with redis.Redis.from_url(shared.url, decode_responses=True) as decoding:
        assert _find(decoding, "flushing") == _find(client, "flushing")


def test_nobody_there() -> None:
    """A server that does not answer is one failed finding, not an exception."""
    (finding,) = check_broker(connect("redis://127.0.0.1:1/0"))
    assert (finding.name, finding.verdict) == ("reachable", "fail")
    assert "127.0.0.1:1" in finding.detail


def test_wrong_password_is_told_without_showing_it(shared: EmbeddedServer) -> None:
    """A refused login fails with a remedy about the URL, and the password is not repeated."""
    (finding,) = check_broker(connect(f"redis://nobody:s3cret@{shared.host}:{shared.port}/0"))
    assert finding.verdict == "fail"
    assert "USER:PASSWORD" in finding.remedy
    assert "s3cret" not in finding.detail + finding.remedy


@pytest.mark.parametrize(
    ("maxmemory", "need_bytes", "verdict"),
    [
        (0, None, "ok"),
        (0, 1_000_000, "ok"),
        (0, 2**60, "fail"),
        (10_000_000, 20_000_000, "fail"),
        (10_000_000, 9_990_000, "warning"),
        (50_000_000, 20_000_000, "ok"),
    ],
)
def test_memory_is_measured_against_the_need(
    client: redis.Redis, maxmemory: int, need_bytes: int | None, verdict: str
) -> None:
    """Too small a limit or machine fails, a limit whose free part is too small warns, enough is enough."""
    client.config_set("maxmemory", maxmemory)
    assert _find(client, "memory", need_bytes).verdict == verdict


def test_a_broker_too_small_to_take_over_is_a_warning(client: redis.Redis) -> None:
    """What it needs beside a second server must fit; what it needs while that is away should."""
    client.config_set("maxmemory", 50_000_000)
    for need_alone_bytes, verdict in ((20_000_000, "ok"), (60_000_000, "warning")):
        (memory,) = [one for one in check_broker(client, 10_000_000, need_alone_bytes) if one.name == "memory"]
        assert memory.verdict == verdict
    assert "while the server for blobs is away" in memory.detail


@pytest.mark.parametrize(
    ("policy", "maxmemory", "verdict"),
    [
        ("allkeys-lru", 10**8, "fail"),
        ("volatile-lru", 10**8, "fail"),
        ("allkeys-lru", 0, "ok"),
        ("noeviction", 10**8, "ok"),
    ],
)
def test_eviction_fails_only_where_it_can_happen(
    client: redis.Redis, policy: str, maxmemory: int, verdict: str
) -> None:
    """An evicting policy fails when there is a limit that could trigger it."""
    client.config_set("maxmemory-policy", policy)
    client.config_set("maxmemory", maxmemory)
    finding = _find(client, "eviction")
    assert finding.verdict == verdict
    if verdict == "fail":
        assert ("the coordinator's lease" in finding.detail) == policy.startswith("volatile")


def test_no_append_only_file_is_a_warning(client: redis.Redis) -> None:
    """Without persistence a campaign may start, but its author is told what a restart costs."""
    client.config_set("appendonly", "no")
    finding = _find(client, "persistence")
    assert finding.verdict == "warning"
    assert "loses the update log" in finding.detail
    assert "flushing" not in [finding.name for finding in check_broker(client)]


def test_a_file_that_is_never_flushed_is_a_warning(client: redis.Redis) -> None:
    """appendfsync no leaves the flush to the kernel, and that is said."""
    client.config_set("appendfsync", "no")
    assert _find(client, "flushing").verdict == "warning"


def test_a_replica_fails(client: redis.Redis) -> None:
    """A server that only follows another refuses writes, so it cannot carry a campaign."""
    client.replicaof("127.0.0.1", "1")
    assert _find(client, "role").verdict == "fail"


def test_few_free_connections_are_a_warning(client: redis.Redis) -> None:
    """A connection limit that is nearly reached is seen before the workers are refused."""
    client.config_set("maxclients", 40)
    assert _find(client, "connections").verdict == "warning"


@pytest.mark.parametrize(("offset_seconds", "verdict"), [(-3.0, "warning"), (3.0, "warning"), (1.0, "ok")])
def test_a_wrong_clock_is_a_warning(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, offset_seconds: float, verdict: str
) -> None:
    """More than two seconds between the clocks warns, whichever is ahead."""
    true_time = time.time
    monkeypatch.setattr(answering.time, "time", lambda: true_time() + offset_seconds)
    assert _find(client, "clock").verdict == verdict


def test_a_slow_line_is_a_warning(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A median above the limit warns."""
    monkeypatch.setattr(answering, "SLOW_PING_SECONDS", 1e-9)
    assert _find(client, "latency").verdict == "warning"


def test_what_is_forbidden_is_a_warning(shared: EmbeddedServer, client: redis.Redis) -> None:
    """A user without INFO, CONFIG and TIME gets a warning for each check that needs them, and no failure."""
    client.execute_command("ACL", "SETUSER", "device", "on", ">pw", "resetkeys", "+@connection", "-info", "-time")
    with connect(f"redis://device:pw@{shared.host}:{shared.port}/0") as limited:
        findings = check_broker(limited, need_bytes=2**60)
    assert [finding.name for finding in findings] == NAMES
    assert {finding.name for finding in findings if finding.verdict == "ok"} == {"reachable", "latency"}
    assert all("not permitted to look" in f.detail for f in findings if f.verdict != "ok")
    assert not any(finding.verdict == "fail" for finding in findings)


def test_looking_changes_nothing(client: redis.Redis) -> None:
    """No check writes a key, and none uses a command whose cost grows with the number of keys."""
    client.config_resetstat()
    check_broker(client, need_bytes=1_000_000)
    used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert used <= {
        "ping",
        "info",
        "config|get",
        "config|resetstat",
        "time",
        "hello",
        "client|setinfo",
        "select",
        "client|maint_notifications",
    }
    assert client.dbsize() == 0


def test_an_old_version_fails() -> None:
    """Anything below 7.0 is refused, whatever its name."""
    assert fitness._server({"redis_version": "6.2.14"}).verdict == "fail"
    assert fitness._server({"redis_version": "10.0.1"}).verdict == "ok"
    assert fitness._server({"redis_version": "7.2.4", "valkey_version": "9.1.2"}).verdict == "ok"


def test_a_cluster_fails() -> None:
    """Queues cannot span a cluster, so its members are refused, by whichever name the server tells it."""
    for told in ({"redis_mode": "cluster"}, {"server_mode": "cluster"}, {"server_mode": "sentinel"}):
        assert fitness._server({"redis_version": "7.2.4", **told}).verdict == "fail"
    assert fitness._server({"redis_version": "7.2.4", "cluster_enabled": 1}).detail.endswith("mode cluster")
    assert fitness._server({"redis_version": "7.2.4", "server_mode": "standalone"}).verdict == "ok"


def test_the_shipped_settings_pass(tmp_path: Path) -> None:
    """deploy/redis.conf starts and gives a server without a single complaint."""
    settings = Path(__file__).parents[2] / "deploy" / "redis.conf"
    wrapper = tmp_path / "server-with-settings"
    # The file's own values must hold, so the embedded server's arguments are replaced and only its port is kept.
    wrapper.write_text(
        f'#!/bin/sh\nwhile [ "$1" != --port ]; do shift; done\n'
        f'exec {find_binary()} {settings} --bind 127.0.0.1 --port "$2" --dir {tmp_path}\n'
    )
    wrapper.chmod(0o755)
    with (
        EmbeddedServer(tmp_path, binary=wrapper) as server,
        redis.Redis.from_url(server.url, decode_responses=True) as client,
    ):
        assert {finding.verdict for finding in check_broker(client, need_bytes=1_000_000)} == {"ok"}
        wanted = {"protected-mode": "yes", "maxmemory-policy": "noeviction", "save": "", "appendonly": "yes"}
        assert client.config_get(*wanted) == wanted


# -- the server for blobs ------------------------------------------------------------------------------------------


def test_a_good_second_server_passes_everything(blobs: redis.Redis, client: redis.Redis) -> None:
    """Our own embedded one has nothing to complain about, and each finding says which server is meant."""
    findings = check_blobs(blobs, client, need_bytes=1_000_000)
    assert [finding.name for finding in findings] == BLOBS_NAMES
    assert {finding.verdict for finding in findings} == {"ok"}


@pytest.mark.parametrize(
    ("setting", "value", "remedy"), [("appendonly", "yes", "appendonly no"), ("save", "900 1", 'save ""')]
)
def test_a_second_server_that_writes_is_a_warning(
    blobs: redis.Redis, client: redis.Redis, setting: str, value: str, remedy: str
) -> None:
    """An append-only file and snapshots are waste there, and the remedy says what turns them off."""
    blobs.config_set(setting, value)
    finding = _find_blobs(blobs, client, "persistence")
    assert (finding.verdict, finding.remedy) == ("warning", f"set {remedy}")


def test_the_broker_is_no_second_server(shared: EmbeddedServer, client: redis.Redis) -> None:
    """The same server under another address is found by what it says of itself."""
    with connect(shared.url) as same:
        assert _find_blobs(same, client, "identity").verdict == "fail"


def test_a_second_server_without_its_broker_is_looked_at_all_the_same(blobs: redis.Redis) -> None:
    """Only the comparison with the broker is missing."""
    findings = check_blobs(blobs, connect("redis://127.0.0.1:1/0"))
    assert [finding.name for finding in findings if finding.verdict != "ok"] == ["blobs identity"]


def test_a_second_server_is_measured_as_the_broker_is(blobs: redis.Redis, client: redis.Redis) -> None:
    """Too little memory, eviction and a replica fail there too."""
    blobs.config_set("maxmemory", 10_000_000)
    blobs.config_set("maxmemory-policy", "allkeys-lru")
    blobs.replicaof("127.0.0.1", "1")
    failed = {finding.name for finding in check_blobs(blobs, client, 20_000_000) if finding.verdict == "fail"}
    assert failed == {"blobs role", "blobs eviction", "blobs memory"}


def test_what_a_second_server_forbids_is_a_warning(
    second: EmbeddedServer, blobs: redis.Redis, client: redis.Redis
) -> None:
    """A user that may only ping gets a warning for each check that it cannot make."""
    blobs.execute_command("ACL", "SETUSER", "device", "on", ">pw", "resetkeys", "+@connection")
    with connect(f"redis://device:pw@{second.host}:{second.port}/0") as limited:
        findings = check_blobs(limited, client, need_bytes=2**60)
    assert [finding.name for finding in findings] == BLOBS_NAMES
    assert {finding.verdict for finding in findings} == {"ok", "warning"}


def test_the_command_looks_at_both(
    shared: EmbeddedServer,
    second: EmbeddedServer,
    client: redis.Redis,
    blobs: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`fedtide check SPEC --blobs` lists what it tried of the spec, then both servers.

    It ends with code 1 when the second one is not there.
    """
    monkeypatch.setattr("fl_core.program.outside.threading.active_count", lambda: 1)  # the test program has threads
    spec = Path(__file__).parents[2] / "examples" / "digits" / "campaign.toml"
    arguments = ["check", str(spec), "--broker", shared.url, "--json", "--blobs"]
    good = CliRunner().invoke(fedtide, [*arguments, f":{second.port}"])
    assert good.exit_code == 0, good.output
    tried = ["model", "codec", "strategy", "evaluation.data", "evaluation", "training"]
    assert [finding["name"] for finding in json.loads(good.stdout)] == [*tried, *NAMES, *BLOBS_NAMES]
    bad = CliRunner().invoke(fedtide, [*arguments[:-1]], env={"FEDTIDE_BLOBS": "127.0.0.1:1"})
    assert bad.exit_code == 1
    last = json.loads(bad.stdout)[-1]
    assert (last["name"], last["verdict"]) == ("blobs reachable", "fail")
    assert CliRunner().invoke(fedtide, [*arguments, "nowhere"]).exit_code == 2


def test_the_command_that_the_documents_give_starts_a_fit_second_server(tmp_path: Path, client: redis.Redis) -> None:
    """docs/devices.md has a line for redis-server; what it starts is looked at without a complaint."""
    text = (Path(__file__).parents[2] / "docs" / "devices.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("redis-server --port 6380")]
    options = shlex.split(line)[3:]
    wrapper = tmp_path / "server-by-hand"
    wrapper.write_text(
        f'#!/bin/sh\nwhile [ "$1" != --port ]; do shift; done\n'
        f'exec {find_binary()} --port "$2" --dir {tmp_path} {shlex.join(options)}\n'
    )
    wrapper.chmod(0o755)
    with EmbeddedServer(tmp_path, binary=wrapper) as server, connect(server.url) as blobs:
        assert {finding.verdict for finding in check_blobs(blobs, client, 1_000_000)} == {"ok"}
