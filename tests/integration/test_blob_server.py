"""The second server, for versions and large updates: real servers and programs, and every way in which it can fail."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from fl_core.broker.server.embedded import EmbeddedServer
from tests.integration.lab import Lab, assert_identity, until

# 76 810 parameters: neither a version nor an update is small enough to ride along.
LARGE = {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [1024], "classes": 10}}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


@pytest.fixture
def second(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "second", persistent=False) as server:
        yield server


def _bulky(url: str) -> set[str]:
    """The kinds of bulky keys that a server has."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        names = {name.rpartition("}:")[2].partition(":")[0] for name in client.scan_iter("fedtide:*")}
    return names & {"model", "blob"}


def test_bulky_bytes_go_through_the_second_server_and_survive_its_restarts(lab: Lab, second: EmbeddedServer) -> None:
    """Killed with SIGKILL and started empty, twice: versions are published again, lost updates are done again."""
    spec = lab.spec(model=LARGE, stop={"updates": 60}, dispatch={"concurrency": 6})
    coordinator = lab.run(spec, "--blobs", f":{second.port}")
    for shard in (0, 1):
        lab.worker(f"worker-{shard}", shard=shard, delay=0.1)
    until(lambda: _bulky(second.url) == {"model", "blob"})
    assert _bulky(lab.url) == set()
    for merges in (2, 8):
        until(lambda merges=merges: len(lab.history()) > merges)
        second.kill()
        second.restart()
    assert coordinator.wait(60) == 0, coordinator.output
    summary = lab.summary()
    assert_identity(summary)
    assert summary["merged"] == 60
    assert summary["rejected"] == {}
    assert summary["surplus"] == {}
    reasons = {line["reason"] for line in lab.history() if line["kind"] == "reissue"}
    assert reasons <= {"payload_lost"}
    with redis.Redis.from_url(second.url) as client:
        # What arrived after the end ends by itself.
        assert all(client.ttl(name) > 0 for name in client.scan_iter("fedtide:*"))
    assert not (lab.folder / "run" / "spool").exists()


def test_campaign_goes_on_without_the_second_server(lab: Lab, second: EmbeddedServer) -> None:
    """It goes away for good: versions and updates take the way through the broker, and the log says so."""
    coordinator = lab.run(lab.spec(model=LARGE, stop={"updates": 30}), "--blobs", f":{second.port}")
    lab.worker("worker", delay=0.05)
    until(lambda: len(lab.history()) > 2)
    second.kill()
    assert coordinator.wait(60) == 0, coordinator.output
    assert "the server for blobs does not serve" in coordinator.output
    assert lab.summary()["merged"] == 30
    assert lab.summary()["rejected"] == {}


def test_second_server_that_is_not_there_is_no_reason_to_refuse(lab: Lab) -> None:
    """Launched before it, the campaign warns and sends all through the broker."""
    coordinator = lab.run(lab.spec(model=LARGE, stop={"updates": 4}), "--blobs", "127.0.0.1:1")
    lab.worker("worker")
    assert coordinator.wait(60) == 0, coordinator.output
    assert "the server for blobs is not reachable" in coordinator.output
    assert lab.summary()["merged"] == 4


def test_unfit_second_server_is_refused(lab: Lab, second: EmbeddedServer) -> None:
    """A second server that is too small, or the broker itself: one sentence, and nothing is launched."""
    with redis.Redis.from_url(second.url) as client:
        client.config_set("maxmemory", 10**7)
    for port, words in ((second.port, "blobs memory"), (lab.server.port, "it is the broker itself")):
        coordinator = lab.run(lab.spec(model=LARGE), "--blobs", f":{port}", name=f"to-{port}")
        assert coordinator.wait(30) == 2
        assert "Error: the server for blobs is not fit for this campaign" in coordinator.output
        assert words in coordinator.output
    assert lab.ask("campaigns") == []


def test_coordinator_and_second_server_killed_together_lose_no_merge(lab: Lab, second: EmbeddedServer) -> None:
    """The log is applied again with the payloads that the coordinator had kept: the history goes on where it stood."""
    spec = lab.spec(model=LARGE, stop={"updates": 40}, checkpoint={"every_merges": 1000, "every_seconds": 1000.0})
    coordinator = lab.run(spec, "--blobs", f":{second.port}")
    lab.worker("worker", delay=0.05)
    until(lambda: len(lab.history()) > 5)
    coordinator.send(signal.SIGKILL)
    second.kill()
    coordinator.wait()
    before = lab.history()
    second.restart()
    again = lab.run(spec, "--resume", "--blobs", f":{second.port}", name="again")
    assert again.wait(60) == 0, again.output
    after = lab.history()
    assert after[: len(before)] == before
    assert lab.summary()["merged"] == 40
    assert lab.summary()["rejected"] == {}
    assert_identity(lab.summary())


def test_embedded_run_starts_a_second_server_that_writes_nothing(lab: Lab) -> None:
    """Without --broker there are two servers; the second has no append-only file and ends with the run."""
    fleet = lab.folder / "fleet.toml"
    fleet.write_text('[[worker]]\nname = "w"\ndata = "fl_core.data:digits"\n')
    run = lab.folder / "embedded"
    program = lab.program(
        "coordinator", "run", str(lab.spec(model=LARGE, stop={"updates": 4})), "--fleet", str(fleet),
        "--port", "0", "--out", str(run), name="embedded",
    )  # fmt: skip
    assert program.wait(60) == 0, program.output
    assert (run / "broker" / "appendonlydir").is_dir()
    assert (run / "broker" / "blobs" / "server.log").is_file()
    assert not (run / "broker" / "blobs" / "appendonlydir").exists()
    assert sum(path.stat().st_size for path in (run / "broker" / "appendonlydir").iterdir()) < 200_000
