"""A whole campaign: real Redis, real coordinator and worker processes, started as a user starts them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import fedtide
from coordinator.report.replay import replay_run
from fl_core.data import digits
from tests.integration.lab import Lab, assert_identity, until

EVALUATION = {"data": "fl_core.data:digits", "data_args": {"split": "test"}}


def test_two_workers_one_of_them_late_train_a_model_together(lab: Lab) -> None:
    """A campaign waits for workers, a late one joins in, and the run's folder holds what the documentation says."""
    coordinator = lab.run(lab.spec(stop={"updates": 60}, evaluation=EVALUATION))
    coordinator.wait_for("no worker serves these queues yet")
    lab.worker("early", shard=0, delay=0.1)
    early = until(lambda: any("early" in line.get("workers", ()) for line in lab.history()))
    assert early
    lab.worker("late", shard=1)
    assert coordinator.wait() == 0
    summary = lab.summary()
    assert_identity(summary)
    assert summary["state"] == "finished"
    assert summary["stop_reason"] == "updates"
    assert summary["merged"] == 60
    assert summary["merged_by_worker"]["late"] > 0
    assert summary["out"] == 0
    assert summary["final_accuracy"] > 0.2
    folder = lab.folder / "run"
    assert {path.name for path in folder.iterdir()} >= {
        "spec.toml",
        "history.jsonl",
        "summary.json",
        "model.safetensors",
    }
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    assert sum(array.size for array in tensors.values()) == summary["num_parameters"]
    assert all(np.isfinite(array).all() for array in tensors.values())
    merges = [line for line in lab.history() if line["kind"] == "merge"]
    assert [line["version"] for line in merges] == list(range(1, summary["versions"] + 1))
    assert sum(len(line["workers"]) for line in merges) == 60
    result = replay_run(folder)  # of a folder without a log: what it holds agrees with itself
    assert (result["log_kept"], result["equal"], result["merged"]) == (False, True, 60), result


@pytest.mark.parametrize("strategy", ["fedasync", "fedavg", "fedbuff"])
def test_a_campaign_ends_in_the_same_model_in_a_simulation(lab: Lab, strategy: str) -> None:
    """FedAsync merges each update; FedAvg waits for its cohort, so nothing in it is ever stale; FedBuff's devices keep
    what top-k leaves out. Each campaign's updates, played again as they arrived, make the same model bit for bit."""
    codec = {"name": "topk", "fraction": 0.2} if strategy == "fedbuff" else {}
    spec = lab.spec(
        aggregation={"strategy": strategy}, dispatch={"concurrency": 2}, stop={"updates": None, "versions": 5},
        codec=codec, checkpoint={"keep_log": True},
    )  # fmt: skip
    coordinator = lab.run(spec)
    lab.worker("one", shard=0)
    lab.worker("two", shard=1, delay=0.05)
    assert coordinator.wait() == 0
    summary = lab.summary()
    assert_identity(summary)
    assert summary["versions"] == 5
    assert summary["merged"] == {"fedasync": 5, "fedavg": 10, "fedbuff": 10}[strategy]
    if strategy == "fedavg":
        assert summary["staleness"]["max"] == 0
    devices = [
        fedtide.SimulatedDevice(name, digits("train", shard=shard, num_shards=4))
        for shard, name in enumerate(["one", "two"])
    ]
    again = fedtide.simulate(spec, devices, recorded=lab.folder / "run")
    for key in ("campaign", "model_digest", "merged_by_worker", "staleness", "bytes_up"):
        assert again.summary[key] == summary[key], key


def test_killed_worker_is_noticed_and_its_task_done_by_another(lab: Lab) -> None:
    """A worker that dies with a task in hand loses nothing: within seconds another one has the task."""
    coordinator = lab.run(lab.spec(dispatch={"concurrency": 1}, stop={"updates": 1}))
    doomed = lab.worker("doomed", delay=60)
    until(lambda: any(row["state"] == "training" for row in lab.ask("workers")))
    lab.worker("heir")
    doomed.send(signal.SIGKILL)
    assert coordinator.wait(25) == 0
    summary = lab.summary()
    assert_identity(summary)
    assert summary["merged_by_worker"] == {"heir": 1}
    assert summary["reissued"] == 1
    reissue = next(line for line in lab.history() if line["kind"] == "reissue")
    assert reissue["reason"] == "lost"


def test_stopped_worker_hands_its_task_back_and_leaves_the_roster(lab: Lab) -> None:
    """SIGTERM with a short grace period: the task goes back at once, without spending an attempt."""
    coordinator = lab.run(lab.spec(dispatch={"concurrency": 1}, stop={"updates": 1}))
    leaving = lab.worker("leaving", "--grace-seconds", "0.5", delay=60)
    until(lambda: any(row["state"] == "training" for row in lab.ask("workers")))
    lab.worker("staying")
    leaving.send(signal.SIGTERM)
    assert leaving.wait(15) == 0
    assert coordinator.wait(15) == 0
    assert {row["worker"] for row in lab.ask("workers")} == {"staying"}
    assert next(line["reason"] for line in lab.history() if line["kind"] == "reissue") == "handed_back"
    assert lab.summary()["merged_by_worker"] == {"staying": 1}


def test_stopped_worker_finishes_its_task_within_the_grace_period(lab: Lab) -> None:
    """SIGTERM while a short task is in hand: it is finished and merged, then the worker leaves."""
    coordinator = lab.run(lab.spec(dispatch={"concurrency": 1}, stop={"updates": 1}))
    worker = lab.worker("finishing", delay=5.0)
    until(lambda: any(row["state"] == "training" for row in lab.ask("workers")))
    worker.send(signal.SIGTERM)
    assert worker.wait(15) == 0
    assert coordinator.wait(15) == 0
    assert lab.summary()["reissued"] == 0


def test_failing_user_code_is_reported_counted_and_given_up(lab: Lab) -> None:
    """A model that raises on the device: the traceback is in the log, attempts are bounded, the ledger adds up."""
    (lab.folder / "fragile.py").write_text(
        "import torch\n"
        "class Fragile(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.linear = torch.nn.Linear(64, 10)\n"
        "    def forward(self, x):\n"
        "        raise RuntimeError('the sensor is unplugged')\n"
    )
    spec = lab.spec(
        model={"factory": "fragile:Fragile", "args": None},
        dispatch={"concurrency": 1, "max_attempts": 2},
        stop={"updates": None},
    )
    coordinator = lab.run(spec)
    worker = lab.worker("unlucky", "--allow", "fragile")
    until(lambda: lab.history() and lab.ask("status", "trial")["rejected"].get("training_failed"))
    lab.ask("stop", "trial")
    assert coordinator.wait() == 0
    summary = lab.summary()
    assert_identity(summary)
    assert summary["merged"] == 0
    assert summary["rejected"]["training_failed"] >= 1
    assert "the sensor is unplugged" in coordinator.output
    assert "the sensor is unplugged" in worker.output
    assert worker.process.poll() is None


def test_pause_resume_and_stop_from_another_terminal(lab: Lab) -> None:
    """A paused campaign merges what comes late and issues nothing; resumed it goes on; stopped it ends in order."""
    coordinator = lab.run(lab.spec(stop={"updates": None}))
    lab.worker("steady", delay=0.05)
    until(lambda: lab.history())
    assert lab.ask("pause", "trial")["state"] == "paused"
    until(lambda: lab.ask("status", "trial")["out"] <= 1)
    issued = lab.ask("status", "trial")["issued"]
    until(lambda: lab.ask("status", "trial")["claimed"] == 0)
    assert lab.ask("status", "trial")["issued"] == issued
    assert lab.ask("resume", "trial")["state"] == "running"
    until(lambda: lab.ask("status", "trial")["issued"] > issued)
    assert lab.ask("stop", "trial")["state"] == "stopped"
    assert coordinator.wait(15) == 0
    summary = lab.summary()
    assert_identity(summary)
    assert (summary["state"], summary["stop_reason"]) == ("stopped", "asked")
    assert lab.ask("queues")[0]["depth"] == 0


def test_interrupted_campaign_is_resumed_to_its_end(lab: Lab) -> None:
    """Ctrl-C writes a checkpoint and a summary; --resume goes on with the same campaign until it is finished."""
    spec = lab.spec(stop={"updates": 40})
    coordinator = lab.run(spec)
    lab.worker("patient", delay=0.1)
    until(lambda: len(lab.history()) >= 3)
    coordinator.send(signal.SIGINT)
    assert coordinator.wait(15) == 0
    first = lab.summary()
    assert_identity(first)
    assert first["state"] == "interrupted"
    assert lab.run(spec, "--resume", name="again").wait() == 0
    second = lab.summary()
    assert_identity(second)
    assert second["campaign"] == first["campaign"]
    assert second["merged"] == 40
    merges = [line["version"] for line in lab.history() if line["kind"] == "merge"]
    assert merges == list(range(1, second["versions"] + 1))
    assert replay_run(lab.folder / "run")["equal"]


def test_fleet_and_embedded_server_end_with_an_interrupted_run(lab: Lab) -> None:
    """`fedtide run --fleet` starts everything itself, and Ctrl-C leaves no process of it behind."""
    fleet = lab.folder / "fleet.toml"
    fleet.write_text(
        '[[worker]]\ndata = "fl_core.data:digits"\ndata_args = {num_shards = 2, shard = "{index}"}\ncount = 2\n'
    )
    out = lab.folder / "fleet-run"
    arguments = ["run", str(lab.spec(stop={"updates": None})), "--fleet", str(fleet), "--out", str(out), "--port", "0"]
    run = lab.program("coordinator", *arguments, name="fleet")
    until(lambda: len(lab.history("fleet-run")) > 2)
    children = _descendants(run.process.pid)
    assert len(children) >= 5  # the server, two workers with a child each
    run.send(signal.SIGINT)
    assert run.wait(20) == 0
    until(lambda: not any(_is_alive(pid) for pid in children))


def test_killed_run_takes_its_fleet_and_server_with_it(lab: Lab) -> None:
    """kill -9 of `fedtide run --fleet` leaves no worker and no server behind."""
    fleet = lab.folder / "fleet.toml"
    fleet.write_text('[[worker]]\ndata = "fl_core.data:digits"\n')
    arguments = ["run", str(lab.spec(stop={"updates": None})), "--fleet", str(fleet), "--port", "0"]
    run = lab.program("coordinator", *arguments, "--out", str(lab.folder / "killed"), name="killed")
    until(lambda: len(lab.history("killed")) > 2)
    children = _descendants(run.process.pid)
    run.send(signal.SIGKILL)
    until(lambda: not any(_is_alive(pid) for pid in children))


def _descendants(pid: int) -> set[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found: set[int] = set()
    generation = {pid}
    while generation:
        generation = {child for child, parent in parents.items() if parent in generation}
        found |= generation
    return found


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"
