"""A resume looks before it leaps: damaged checkpoints, lost logs, campaigns that live elsewhere, folders in use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import redis

from coordinator.launch.lives import look_elsewhere
from coordinator.report.replay import replay_run
from coordinator.storage.history import read_history
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.errors import CampaignError
from fl_core.wire.history import MergeLine
from tests.integration.lab import Lab, assert_identity, until
from tests.integration.stage import Device, Snapshot, Stage

IDENTITY = ["rel-1", b"s" * 32, "life-1", 1]


def meta(**more: Any) -> dict[str, Any]:
    """What a checkpoint says of itself, as far as it is looked at."""
    return {"identity": IDENTITY, **more}


@pytest.mark.parametrize("crashed", [False, True])
def test_no_id_is_given_out_twice_by_a_campaign_whose_server_was_rolled_back_while_nobody_coordinated(
    broker_server: EmbeddedServer, client: redis.Redis, tmp_path: Path, crashed: bool
) -> None:
    """The coordinator dies behind its checkpoint, the server comes back older than that: what it still has of the log
    is merged as it was, and all that is out later has ids that nobody has seen."""
    folder, before = tmp_path / "run", tmp_path / "before"
    device = Device(broker_server.url)
    checkpoint = {"keep_log": True, "every_merges": 10**6, "every_seconds": 600.0}
    try:
        stage = Stage(broker_server.url, folder, checkpoint=checkpoint)
        until(lambda: stage.merged > 20)
        shutil.copytree(folder / "checkpoint", before)
        snapshot, merged = Snapshot(client), stage.merged
        until(lambda: stage.merged > merged + 20)
        stage.interrupt()
        if crashed:  # neither the last checkpoint nor what came since has been
            shutil.rmtree(folder / "checkpoint")
            before.rename(folder / "checkpoint")
        device.idle.set()
        snapshot.restore()
        client.delete(stage.keys.writer)
        seen = {call.task_id for call in device.taken}
        device.taken.clear()
        again = Stage(broker_server.url, folder, resume=True, checkpoint=checkpoint)
        until(lambda: client.get(again.keys.incarnation) == again.identity.incarnation.encode())
        device.idle.clear()
        again.assert_alive()
        until(lambda: again.merged > merged)
        summary = again.stop()
    finally:
        device.close()
    assert again.identity.incarnation != stage.identity.incarnation
    assert not seen & {call.task_id for call in device.taken}
    assert_identity(summary)
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    tasks = [task for line in history if line["kind"] == "merge" for task in line["tasks"]]
    assert len(set(tasks)) == len(tasks) == summary["merged"]
    assert replay_run(folder)["equal"]


def test_a_campaign_that_is_on_another_broker_is_not_begun_here(
    broker_server: EmbeddedServer, client: redis.Redis
) -> None:
    """One that is run there, or whose log is there, is refused with the command; one that is nowhere goes on here."""
    broker = CampaignBroker(client, "rel-1")
    client.set(broker.keys.incarnation, "life-1")
    elsewhere = broker_server.url[:-1] + "7"
    here, before = CampaignBroker(redis.Redis.from_url(elsewhere), "rel-1"), meta(broker=broker_server.url)
    with pytest.raises(CampaignError, match=f"which still has its log; go on with --broker {broker_server.url}"):
        look_elsewhere(before, elsewhere, here)
    client.set(broker.keys.writer, "laptop:42:aa:bb:cc")
    with pytest.raises(CampaignError, match="is run by process 42 on laptop"):
        look_elsewhere(before, elsewhere, here)
    look_elsewhere(before, broker_server.url, broker)
    client.flushall()
    look_elsewhere(before, elsewhere, here)
    look_elsewhere(meta(broker="redis://127.0.0.1:1/0"), elsewhere, here)


# -- whole programs ------------------------------------------------------------------------------------------------


def damage_newest(folder: Path) -> None:
    """Flip a bit in the middle of the newest checkpoint's arrays."""
    newest = max((folder / "checkpoint").glob("*.msgpack")).with_suffix(".safetensors")
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)


def merges(folder: Path) -> dict[int, tuple[int, float]]:
    """Task -> version and second of its merge."""
    lines = [line for line in read_history(folder / "history.jsonl") if isinstance(line, MergeLine)]
    rows = [(task, (line.version, line.seconds)) for line in lines for task in line.tasks]
    assert len(dict(rows)) == len(rows), "a task was merged twice"
    return dict(rows)


def test_a_damaged_checkpoint_costs_nothing_while_the_log_is_there_and_is_told_where_it_is_not(
    broker_server: EmbeddedServer, client: redis.Redis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice ended with a damaged newest checkpoint: first the log has the rest, then the broker is empty as well."""
    checkpoint = {"every_merges": 4, "every_seconds": 0.1}
    device = Device(broker_server.url)
    try:
        stage = Stage(broker_server.url, tmp_path, checkpoint=checkpoint)
        until(lambda: stage.merged > 16)
        stage.interrupt()
        before = merges(tmp_path)
        damage_newest(tmp_path)
        stage = Stage(broker_server.url, tmp_path, resume=True, checkpoint=checkpoint)
        until(lambda: stage.merged > len(before) + 8)
        assert "a checkpoint is damaged; the one before and the log have all of it" in capsys.readouterr().out
        assert {task: merges(tmp_path).get(task) for task in before} == before
        stage.interrupt()
        last = max(merges(tmp_path))
        damage_newest(tmp_path)
        client.flushall()
        stage = Stage(broker_server.url, tmp_path, resume=True, checkpoint=checkpoint)
        assert "and the log no longer goes back to the one before" in capsys.readouterr().out
        until(lambda: max(merges(tmp_path)) > last + 8)
        summary = stage.stop()
    finally:
        device.close()
    assert_identity(summary)
    assert summary["merged"] == len(merges(tmp_path))
    assert not summary["rejected"]


def test_a_folder_in_use_is_refused_unless_to_stand_by(lab: Lab) -> None:
    """Another launch, or a resume on another broker, is told who runs there; the first goes on."""
    spec = lab.spec(stop={"updates": None})
    first = lab.run(spec)
    until(lambda: (lab.folder / "run" / "checkpoint").is_dir())
    occupant = json.loads((lab.folder / "run" / ".lock").read_text())
    assert occupant["broker"] == lab.url
    out = ["--out", str(lab.folder / "run")]
    other = lab.url[:-1] + "7"
    launches = {
        "again": ["--broker", lab.url],
        "moved": ["--broker", other, "--resume"],
        "own": ["--resume"],
    }
    programs = [lab.program("coordinator", "run", str(spec), *out, *more, name=name) for name, more in launches.items()]
    for program in programs:
        assert program.wait() == 2
        assert f"run is in use by process {first.process.pid} on " in program.output
        assert "Traceback" not in program.output
    assert lab.ask("stop", "trial")["state"] == "stopped"
    assert first.wait() == 0
