"""A server that is up but does not serve: the message says what to do, the campaign waits, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import redis

from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.errors import SpecError
from tests.chaos.proxy import Proxy
from tests.integration.lab import Lab, until
from tests.integration.stage import Stage

FAULTS = {
    "out of memory": (
        [("config", "set", "maxmemory", "1mb")],
        [("config", "set", "maxmemory", "0")],
        "the broker is out of memory; raise maxmemory or lower dispatch.concurrency",
    ),
    "read-only replica": (
        [("replicaof", "127.0.0.1", "1")],
        [("replicaof", "no", "one")],
        "the broker is a read-only replica; point fedtide to the primary",
    ),
    "rights are edited": (
        [("acl", "setuser", "default", "-@all", "+acl", "+ping")],
        [("acl", "setuser", "default", "+@all")],
        "the broker does not let this user do that",
    ),
}


def test_a_campaign_waits_out_whatever_the_server_refuses(lab: Lab) -> None:
    """One campaign through all of it, and then a stranger on the broker's port, a proxy's page in the place of replies:
    coordinator and worker say what is wrong, try again, and every update that was asked for is merged."""
    proxy = Proxy(("127.0.0.1", lab.server.port))
    client = redis.Redis.from_url(lab.url)
    try:
        lab.url = f"redis://127.0.0.1:{proxy.port}/0"
        coordinator = lab.run(lab.spec(stop={"updates": 100}, checkpoint={"keep_log": True}))
        worker = lab.worker("steady", delay=0.05)
        for break_it, mend_it, sentence in FAULTS.values():
            merged = len(lab.history())
            until(lambda merged=merged: len(lab.history()) > merged + 3)
            for command in break_it:
                client.execute_command(*command)
            coordinator.wait_for(sentence)
            merged = len(lab.history())
            with pytest.raises(AssertionError, match="not within"):
                until(lambda merged=merged: len(lab.history()) > merged + 1, seconds=0.7)
            for command in mend_it:
                client.execute_command(*command)
        merged = len(lab.history())
        until(lambda: len(lab.history()) > merged + 3)
        proxy.impersonate(3.0)
        coordinator.wait_for("what answers at the broker's address does not speak as Redis does")
        asked = subprocess.run(
            [sys.executable, "-P", "-m", "coordinator", "status", "latest", "--broker", lab.url],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert asked.returncode == 2
        assert "does not speak as Redis does" in asked.stderr
        assert coordinator.wait(60) == 0
        assert worker.process.poll() is None
        assert lab.summary()["merged"] == 100
        assert lab.ask("replay", str(lab.folder / "run"))["equal"]
        for text in (coordinator.output, worker.output, asked.stderr):
            assert "Traceback" not in text
    finally:
        proxy.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"maxmemory-policy": "allkeys-lru", "maxmemory": "100mb"}, "noeviction"),
        ({"maxmemory-policy": "volatile-ttl", "maxmemory": "100mb"}, "--allow-eviction"),
        ({"maxmemory": "3mb"}, "memory"),
    ],
)
def test_unfit_broker_is_refused_before_anything_is_launched(
    broker_server: EmbeddedServer, client: redis.Redis, tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    """A server that may drop keys, or is too small, is refused with the remedy, and nothing written."""
    before = {name: client.config_get(name)[name] for name in settings}
    try:
        for name, value in settings.items():
            client.config_set(name, value)
        with pytest.raises(SpecError, match=words):
            Stage(broker_server.url, tmp_path / "run")
        assert client.dbsize() == 0
    finally:
        for name, value in before.items():
            client.config_set(name, value)


def test_half_open_connection_of_a_worker_is_noticed(lab: Lab) -> None:
    """A cable that swallows bytes: the task is re-issued, and the worker comes back when the cable is mended."""
    proxy = Proxy(("127.0.0.1", lab.server.port))
    try:
        coordinator = lab.run(lab.spec(stop={"updates": None}))
        lab.worker("near", delay=0.2)
        url = lab.url
        lab.url = f"redis://127.0.0.1:{proxy.port}/0"
        far = lab.worker("far", shard=1, delay=1.0)  # frozen with a task in hand
        lab.url = url

        until(lambda: lab.history())

        def merged_by_far() -> int:
            return int(lab.ask("status", "trial").get("merged_by_worker", {}).get("far", 0))

        until(lambda: merged_by_far() > 0)
        proxy.freeze(60.0)
        until(lambda: any(line["kind"] == "reissue" for line in lab.history()), seconds=30)
        proxy.freeze(0.0)
        before = merged_by_far()
        until(lambda: merged_by_far() > before + 1, seconds=60)
        assert far.process.poll() is None
        lab.ask("stop", "trial")
        assert coordinator.wait(20) == 0
    finally:
        proxy.close()


@pytest.mark.parametrize("revoked", ["password", "rights"])
def test_a_worker_that_the_broker_refuses_ends_with_the_reason(lab: Lab, revoked: str) -> None:
    """Not at once, because rights are edited in moments; and not never. It says why, and shows no password."""
    client = redis.Redis(port=lab.server.port)
    client.acl_setuser("pi", enabled=True, passwords=["+first"], keys=["*"], channels=["*"], commands=["+@all"])
    begun = (
        "import workers.cli, workers.daemon as module\n"
        "start = module.Daemon\n"
        "module.Daemon = lambda settings: start(settings, refused_seconds=1.0)\n"
        "workers.cli.worker()\n"
    )
    (lab.folder / "hasty.py").write_text(begun)
    arguments = ["hasty", "--data", "fl_core.data:digits", "--name", "pi", "--state-dir", str(lab.folder / "state")]
    url = f"redis://pi:first@127.0.0.1:{lab.server.port}/0"
    worker = lab.program(*arguments, name="pi", PYTHONPATH=str(lab.folder), FEDTIDE_BROKER=url)
    worker.wait_for("worker is ready")
    if revoked == "password":
        client.acl_setuser("pi", passwords=["-first", "+second"])
    else:
        client.acl_setuser("pi", commands=["-fcall"])
    client.client_kill_filter(user="pi")
    assert worker.wait(30) == 2
    assert "the broker has refused this worker for 1 s" in worker.output.splitlines()[-1]
    assert "Traceback" not in worker.output
    assert "first@" not in worker.output
