"""kill -9 of anything: nothing is lost, nothing counts twice, and a replay of the log gives the same bits."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.lab import Lab, assert_identity, until

KEEP = {"keep_log": True, "every_merges": 4, "every_seconds": 0.5}


def assert_whole(lab: Lab, merged: int) -> dict[str, Any]:
    """The campaign merged what it should, its ledger adds up, and its log gives the same bits again."""
    summary: dict[str, Any] = lab.summary()
    assert_identity(summary)
    assert summary["merged"] == merged
    merges = [line for line in lab.history() if line["kind"] == "merge"]
    assert [line["version"] for line in merges] == list(range(1, summary["versions"] + 1))
    assert sum(len(line["workers"]) for line in merges) == merged
    result = lab.ask("replay", str(lab.folder / "run"))
    assert result["equal"], result
    return summary


@pytest.mark.parametrize(
    "place", ["before_commit:9", "after_commit:9", "between_merge_and_publish:3", "mid_checkpoint:3", "before_trim:2"]
)
def test_coordinator_killed_at_a_named_point_resumes_to_the_same_bit(lab: Lab, place: str) -> None:
    """Wherever the coordinator dies, --resume ends as if it had never died."""
    spec = lab.spec(stop={"updates": 40}, checkpoint=KEEP)
    run = ["run", str(spec), "--broker", lab.url, "--out", str(lab.folder / "run")]
    first = lab.program("coordinator", *run, name="first", FEDTIDE_CRASH_AT=place)
    lab.worker("steady", delay=0.03)
    assert first.wait(40) == -signal.SIGKILL
    assert lab.program("coordinator", *run, "--resume", name="second").wait(40) == 0
    assert_whole(lab, 40)


def test_coordinator_killed_again_and_again_loses_nothing(lab: Lab) -> None:
    """Three kills at arbitrary instants, each followed by --resume."""
    spec = lab.spec(stop={"updates": 60}, checkpoint=KEEP)
    lab.worker("one", delay=0.05)
    lab.worker("two", shard=1, delay=0.08)
    coordinator = lab.run(spec)
    for attempt in range(3):
        seen = len(lab.history())
        until(lambda seen=seen: len(lab.history()) > seen + 2)
        coordinator.send(signal.SIGKILL)
        coordinator.wait()
        coordinator = lab.run(spec, "--resume", name=f"again-{attempt}")
    assert coordinator.wait(40) == 0
    assert_whole(lab, 60)


def test_standby_takes_over_and_a_paused_writer_cannot_write_again(lab: Lab) -> None:
    """A coordinator that stops answering loses its lease to the standby; when it wakes up it is fenced out."""
    spec = lab.spec(stop={"updates": None}, checkpoint=KEEP)
    first = lab.run(spec)
    lab.worker("steady", delay=0.1)
    until(lambda: len(lab.history()) > 2)
    standby = lab.run(spec, "--resume", name="standby")
    standby.wait_for("standby: another coordinator runs this campaign")
    first.send(signal.SIGSTOP)
    stopped = time.monotonic()
    standby.wait_for("taking over", seconds=20)
    assert time.monotonic() - stopped < 15
    versions = lab.ask("status", "trial")["versions"]
    first.send(signal.SIGCONT)
    assert first.wait(20) == 2
    assert "has passed to another coordinator" in first.output
    until(lambda: lab.ask("status", "trial")["versions"] > versions)
    led = [event for event in lab.ask("top", "trial")["events"] if event["kind"] == "coordinator"]
    assert [event["event"] for event in led] == ["launched", "took_over"]
    assert led[1]["predecessor"] == led[0]["holder"]
    assert lab.ask("stop", "trial")["state"] == "stopped"
    assert standby.wait(20) == 0
    assert_whole(lab, lab.summary()["merged"])


def test_campaign_goes_on_after_a_restart_of_the_server(lab: Lab) -> None:
    """kill -9 of a server with persistence: coordinator and workers come back to it by themselves."""
    coordinator = lab.run(lab.spec(stop={"updates": 60}, checkpoint=KEEP))
    lab.worker("one", delay=0.05)
    lab.worker("two", shard=1, delay=0.05)
    until(lambda: len(lab.history()) > 4)
    lab.server.kill()
    coordinator.wait_for("waiting for the broker")
    lab.server.restart()
    assert coordinator.wait(60) == 0
    assert "the broker is back" in coordinator.output
    assert lab.summary()["merged"] == 60


def test_campaign_goes_on_after_the_server_lost_its_data(lab: Lab) -> None:
    """FLUSHALL: the coordinator notices, says so, writes the campaign again, and reaches its end."""
    coordinator = lab.run(lab.spec(stop={"updates": 60}))
    lab.worker("one", delay=0.05)
    until(lambda: len(lab.history()) > 4)
    redis.Redis.from_url(lab.url).flushall()
    coordinator.wait_for("the broker has forgotten the campaign's data")
    assert coordinator.wait(60) == 0
    summary = lab.summary()
    assert summary["merged"] == 60
    merges = [line["version"] for line in lab.history() if line["kind"] == "merge"]
    assert merges == list(range(1, summary["versions"] + 1))


def test_update_finished_without_a_broker_is_delivered_by_the_next_life_of_the_worker(lab: Lab) -> None:
    """The broker vanishes during training: the update waits on disk, survives kill -9, and is merged later."""
    spec = lab.spec(dispatch={"concurrency": 1, "lease_seconds": 60.0}, stop={"updates": 1}, checkpoint=KEEP)
    coordinator = lab.run(spec)
    worker = lab.worker("careful", "--log-level", "debug", delay=3.0)
    worker.wait_for('"event": "training"')  # the claim is made, and the version is there
    lab.server.kill()
    outbox = lab.folder / "state-careful" / "outbox"
    until(lambda: list(outbox.glob("*.update")))
    worker.send(signal.SIGKILL)
    worker.wait()
    lab.server.restart()
    lab.worker("careful", "--log-level", "debug")
    assert coordinator.wait(40) == 0
    summary = assert_whole(lab, 1)
    assert summary["reissued"] == 0
    assert not list(outbox.glob("*.update"))


def test_every_update_sent_twice_counts_once(lab: Lab) -> None:
    """Each log entry of a worker is appended again: every copy is refused as a duplicate, none is merged."""
    coordinator = lab.run(lab.spec(stop={"updates": 20}, checkpoint=KEEP))
    lab.worker("one", delay=0.05)
    client = redis.Redis.from_url(lab.url)
    last, copies = "0-0", 0
    while coordinator.process.poll() is None:
        log = next(iter(client.scan_iter("fedtide:c:*:log")), None)  # this test's own small server
        if log is None:
            time.sleep(0.05)
            continue
        for position, fields in client.xrange(log, min=f"({last}", count=20):
            last = position.decode()
            if b"u" in fields and b"copy" not in fields and copies < 15:
                client.xadd(log, {**fields, b"copy": b"1"})
                copies += 1
        time.sleep(0.02)
    assert coordinator.wait() == 0
    summary = assert_whole(lab, 20)
    assert summary["surplus"]["duplicate"] >= 10


def test_rejected_update_can_be_looked_at_and_let_in(lab: Lab) -> None:
    """Updates above the norm bound are parked with reason and sender; an operator merges one after all."""
    spec = lab.spec(
        aggregation={"max_update_norm": 1e-6, "buffer_size": 1}, stop={"updates": None, "failures_without_merge": 0}
    )
    coordinator = lab.run(spec)
    lab.worker("loud", delay=0.3)
    until(lambda: lab.history())
    parked = until(lambda: lab.ask("rejected", "trial"))
    assert parked[0]["reason"] == "norm_exceeded"
    assert parked[0]["worker"] == "loud"
    before = lab.ask("status", "trial")
    assert before["merged"] == 0
    assert lab.ask("rejected", "trial", "--readmit", "1")["readmitted"]
    until(lambda: lab.ask("status", "trial")["merged"] == 1)
    lab.ask("stop", "trial")
    assert coordinator.wait(20) == 0
    summary = lab.summary()
    assert_identity(summary)
    assert summary["merged"] == 1


def test_resume_without_a_checkpoint_says_so(lab: Lab, tmp_path: Path) -> None:
    """There is nothing to go on from: one sentence, exit code 2."""
    program = lab.run(lab.spec(), "--resume", out="nowhere", name="resume")
    assert program.wait() == 2
    assert "there is no checkpoint" in program.output
    assert "Traceback" not in program.output
