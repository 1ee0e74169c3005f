"""``import fedtide``: a campaign from Python, beside a server and workers that end with it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import fedtide
from tests.integration.lab import SPEC, Lab, until

WORKER = {"data": "fl_core.data:digits", "data_args": {"shard": "{index}", "num_shards": 2}, "count": 2, "name": "w"}


def _processes_in(folder: Path) -> list[str]:
    """Programs whose command line names the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


def test_a_run_from_a_thread_is_a_value(tmp_path: Path) -> None:
    """In any thread; model, history and report are there afterwards, and no process is left."""
    told: list[Any] = []
    runs: list[fedtide.Run] = []

    def launch() -> None:
        spec = {**SPEC, "evaluation": {"data": "fl_core.data:digits", "data_args": {"split": "test"}}}
        runs.append(
            fedtide.run(
                spec,
                fleet=[WORKER],
                out=tmp_path / "run",
                on_launch=lambda *launched: told.append(launched),
                on_progress=told.append,
            )
        )

    thread = threading.Thread(target=launch)
    torch.set_num_threads(2)
    thread.start()
    thread.join(90)
    (run,) = runs
    assert (run.state, run.summary["merged"]) == ("finished", 20)
    assert told[0][0] == run.id
    assert told[1]["state"]
    assert torch.get_num_threads() == 2
    kinds = {row["kind"] for row in run.history()}
    assert {"merge", "evaluation"} <= kinds
    assert run.model()(torch.zeros(1, 64)).shape == (1, 10)
    assert run.report().is_file()
    assert run.id in run._repr_html_()
    assert fedtide.open_run(tmp_path / "run").summary == run.summary
    assert fedtide.run(SPEC, out=tmp_path / "run", resume=True).id == run.id  # it has ended: nothing to do
    assert _processes_in(tmp_path) == []


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    """What is wrong is one sentence, before or after workers were started."""
    with pytest.raises(fedtide.SpecError, match=r"fleet: worker.0.data"):
        fedtide.run(SPEC, fleet=[{"name": "w"}], out=tmp_path / "run")
    with pytest.raises(fedtide.SpecError, match="learning_rate"):
        fedtide.run({**SPEC, "training": {"learning_rate": -1.0}})
    broken = {**WORKER, "data": "fl_core.data:no_such", "count": 1}
    with pytest.raises(fedtide.FedtideError, match="no_such"):
        fedtide.run(SPEC, fleet=[broken], out=tmp_path / "run")
    assert _processes_in(tmp_path) == []
    with pytest.raises(fedtide.SpecError, match="no run that has ended"):
        fedtide.open_run(tmp_path)


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    """Three lines at the top level of a file: no child process of ours runs the file again."""
    script = tmp_path / "three.py"
    script.write_text(
        "print('once')\nimport fedtide\n"
        f"run = fedtide.run({ {**SPEC, 'stop': {'updates': 2}}!r}, fleet=[{WORKER!r}], out='run')\nprint(run.state)\n"
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line for line in done.stdout.splitlines() if line in ("once", "finished")] == ["once", "finished"]


def test_operators_steer_by_value(lab: Lab) -> None:
    """List, watch, pause, resume and stop, as on the command line."""
    coordinator = lab.run(lab.spec(stop={"updates": 100_000}))
    lab.worker("one", shard=0)
    broker = fedtide.connect(lab.url)
    until(broker.campaigns)
    campaign = broker.campaign("trial")
    assert [campaign.id] == [one.id for one in broker.campaigns()]
    until(lambda: campaign.status().get("merged", 0) > 0)
    campaign.pause()
    until(lambda: campaign.status()["state"] == "paused")
    campaign.resume()
    until(lambda: campaign.status()["state"] == "running")
    campaign.stop()
    assert list(campaign.watch(0.1))[-1]["state"] == "stopped"
    assert coordinator.wait() == 0
    with pytest.raises(fedtide.CampaignError, match="is stopped; there is nothing to pause"):
        campaign.pause()
