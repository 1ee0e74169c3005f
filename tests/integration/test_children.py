"""Children of the coordinator that are killed: each is started again, or ends the campaign in one sentence."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.launch.fleet import MAX_DEATHS, Fleet, FleetWorker
from fl_core.broker.connection import connect
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.broker.server.embedded_watch import EmbeddedWatch
from fl_core.errors import CampaignError, SpecError
from tests.integration.lab import Lab, Program, assert_identity, until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that is killed soon."""
    with EmbeddedServer(tmp_path / "broker", flush="always") as server:
        yield server


def _look_until_it_runs(watch: EmbeddedWatch, server: EmbeddedServer) -> bool:
    def look() -> bool:
        watch.look()
        return server.running

    return bool(until(look))


def test_an_embedded_server_is_started_again_with_its_data(server: EmbeddedServer) -> None:
    """On the same port and socket: whoever uses it finds it again."""
    client, url, killed = connect(server.local_url), server.url, server.pid
    client.set("key", "value")
    watch = EmbeddedWatch(server, "the embedded broker")
    watch.look()
    assert server.pid == killed, "one that lives is left alone"
    for _ in range(2):
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not server.running)
        assert _look_until_it_runs(watch, server)
    assert (server.url, client.get("key")) == (url, b"value")
    assert server.pid != killed


def test_one_that_cannot_be_started_ends_the_campaign(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else has its port now: after some tries the sentence says how it ended, and what is in the way."""
    monkeypatch.setattr("fl_core.program.restarts.FIRST_PAUSE_SECONDS", 0.001)
    watch = EmbeddedWatch(server, "the embedded broker")
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.running)
    with socket.create_server((server.host, server.port)), pytest.raises(CampaignError) as caught:
        _look_until_it_runs(watch, server)
    assert str(caught.value).startswith(
        "the embedded broker was killed by SIGKILL, perhaps for want of memory, and cannot "
    )
    assert f"port = {server.port} on 127.0.0.1 is in use" in str(caught.value)
    assert str(caught.value).endswith("go on with --resume.")


def test_a_worker_of_the_fleet_that_is_killed_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few times in a row; then it is told as ended, as one is that ends by itself."""
    monkeypatch.setattr("fl_core.program.restarts.FIRST_PAUSE_SECONDS", 0.001)
    fleet = Fleet([FleetWorker(data="json:loads", name="a")], "redis://127.0.0.1:1/0", tmp_path)
    fleet.start()
    try:
        for _ in range(MAX_DEATHS - 1):
            killed = fleet.pids["a"]
            os.kill(killed, signal.SIGKILL)
            until(lambda killed=killed: fleet.check() or fleet.pids["a"] != killed)
        os.kill(fleet.pids["a"], signal.SIGKILL)
        with pytest.raises(SpecError, match="every worker of the fleet has ended"):
            until(fleet.check)
    finally:
        fleet.stop()


def _children(program: Program, name: str) -> list[int]:
    pid = program.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if name in Path(f"/proc/{child}/cmdline").read_text()]


def test_a_trial_survives_the_death_of_every_child(lab: Lab) -> None:
    """Both embedded servers, a worker and the evaluator are killed at once; the campaign comes to its end."""
    (lab.folder / "fleet.toml").write_text(
        '[[worker]]\ncount = 2\nname = "d"\ndata = "fl_core.data:digits"\nemulate_delay_seconds = 0.1\n'
    )
    spec = lab.spec(evaluation={"data": "fl_core.data:digits", "data_args": {"split": "test"}}, stop={"updates": 30})
    arguments = ["run", str(spec), "--fleet", "fleet.toml", "--port", "0", "--out", str(lab.folder / "run")]
    program = lab.program("coordinator", *arguments, name="trial", new=True)  # whose own children are told by name
    until(lambda: len([line for line in lab.history() if line["kind"] == "merge"]) > 3)
    servers, workers = _children(program, "-server"), _children(program, "workers")
    evaluators = [pid for pid in _children(program, "coordinator") if pid not in workers]
    assert (len(servers), len(workers), len(evaluators)) == (2, 2, 1)
    for pid in (*servers, workers[0], *evaluators):
        os.kill(pid, signal.SIGKILL)
    assert program.wait(120) == 0, program.output
    for who in ("embedded broker", "embedded server for blobs", "worker of the fleet", "evaluating process"):
        assert who in program.output
    summary = lab.summary()
    assert summary["merged"] == 30
    assert summary["final_accuracy"] is not None
    assert_identity(summary)
