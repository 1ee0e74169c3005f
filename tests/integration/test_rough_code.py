"""Code of other people that does worse than raise: the device says what happened, in words, and goes on or ends."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.integration.lab import Lab, Program, until
from tests.integration.test_bad_input import assert_one_sentence

# A model, and a data factory, that do one rough thing after the other, as a file says; then they work.
ROUGH = """
import ctypes, os, pathlib, signal, sys, time

def misbehave():
    plan = pathlib.Path("plan")
    how, _, rest = plan.read_text().partition(" ") if plan.exists() else ("", "", "")
    plan.with_suffix(".next").write_text(rest)
    plan.with_suffix(".next").replace(plan)
    if how == "crash": os.kill(os.getpid(), signal.SIGSEGV)
    if how == "exit": os._exit(3)
    if how == "sys.exit": sys.exit(4)
    if how == "interrupt": raise KeyboardInterrupt
    if how == "stop": os.kill(os.getpid(), signal.SIGTERM)
    if how == "hang": time.sleep(1e6)
    if how == "deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, {*signal.Signals})
        while True: ctypes.CDLL(None).sleep(1000000)

def shard(**args):
    from fl_core.data import digits
    misbehave()
    return digits(**args)

def model():
    import torch
    class Rough(torch.nn.Linear):
        def forward(self, x):
            misbehave()
            return super().forward(x)
    return Rough(64, 10)
"""


ALLOW = ("--allow", "rough")


def _rough(lab: Lab, plan: str) -> None:
    (lab.folder / "rough.py").write_text(ROUGH)
    (lab.folder / "plan").write_text(plan)


def _loads_roughly(lab: Lab, name: str, *more: str) -> Program:
    return lab.worker(name, "--data", "rough:shard", *more)


@pytest.mark.timeout(300)  # each process that dies is followed by one that loads torch, in turns with whoever else does
def test_what_training_does_below_python_is_told_in_words(lab: Lab) -> None:
    """It crashes, exits, interrupts, hangs, is deaf: each ends the attempt, with the device's own words."""
    # A task asks the model twice. After each that fails one is done, so that the device does not wait for long.
    good = " ok ok "
    _rough(lab, good.join(("crash", "exit", "sys.exit", "interrupt", "stop ok hang", "deaf")))
    spec = lab.spec(
        model={"factory": "rough:model", "args": None},
        dispatch={"concurrency": 1, "max_attempts": 20, "task_timeout_seconds": 3.0},
        stop={"updates": 7},
    )
    coordinator, worker = lab.run(spec), lab.worker("rough", *ALLOW)
    assert coordinator.wait(280) == 0
    summary = lab.summary()
    assert (summary["merged"], summary["rejected"], summary["expired"]) == (7, {}, 0)
    failed = [line for line in lab.history() if line.get("reason") == "failed"]
    assert {line["worker"] for line in failed} == {"rough"}
    assert [line["detail"] for line in failed] == [
        "the training process was killed by SIGSEGV, a crash below Python",
        "the training process ended with code 3",
        "the training ended with code 4 (sys.exit)",
        "the training raised KeyboardInterrupt",
        "the training did not finish within task_timeout_seconds = 3",
        "the training process did not finish within task_timeout_seconds = 3, was asked to stop, and was killed",
    ]
    assert worker.process.poll() is None


def test_data_that_crashes_the_process_ends_the_worker_with_the_reason(lab: Lab) -> None:
    """Three children in a row die while they load: one sentence, code 2, and the task spent no attempt."""
    _rough(lab, "crash exit crash")
    coordinator = lab.run(lab.spec(dispatch={"concurrency": 1, "max_attempts": 1}, stop={"updates": 2}))
    worker = _loads_roughly(lab, "rough")
    assert worker.wait(60) == 2
    assert_one_sentence(worker.output, "killed by SIGSEGV, a crash below Python", "rough:shard", "3 times in a row")
    assert "while it loaded data = 'rough:shard'" in coordinator.output
    lab.worker("smooth")
    assert coordinator.wait(60) == 0
    assert lab.summary()["merged_by_worker"] == {"smooth": 2}


@pytest.mark.parametrize("how", ["sys.exit", "interrupt"])
def test_data_that_ends_the_program_is_an_error_like_any_other(lab: Lab, how: str) -> None:
    """A factory that calls sys.exit, or raises KeyboardInterrupt: the worker ends with that sentence and code 2."""
    _rough(lab, how)
    lab.run(lab.spec())
    worker = _loads_roughly(lab, "rough")
    assert worker.wait(60) == 2
    last = worker.output.splitlines()[-1]
    assert last.startswith("Error: data = 'rough:shard'"), last
    assert ("SystemExit: 4" if how == "sys.exit" else "KeyboardInterrupt") in last


@pytest.mark.parametrize("where", ["loading", "training"])
def test_a_worker_stops_within_its_grace_whatever_its_code_does(lab: Lab, where: str) -> None:
    """It hears no signal and never returns: SIGTERM to the whole group, and the worker is gone after its grace."""
    _rough(lab, "deaf")
    coordinator = lab.run(lab.spec(model={"factory": "rough:model", "args": None}))
    grace = ("--grace-seconds", "1")
    worker = _loads_roughly(lab, "deaf", *grace) if where == "loading" else lab.worker("deaf", *ALLOW, *grace)
    until(lambda: any(row["state"] == where for row in lab.ask("workers")))
    until(lambda: not (lab.folder / "plan").read_text())
    os.killpg(worker.process.pid, signal.SIGTERM)
    started = time.monotonic()
    assert worker.wait(20) == 0
    assert time.monotonic() - started < 11
    until(lambda: "task handed back" in coordinator.output)
    said = [json.loads(line) for line in coordinator.output.splitlines() if "task handed back" in line]
    assert f"it was still {where}" in said[0]["detail"]


def test_data_that_blocks_ends_the_worker_in_time(lab: Lab) -> None:
    """Nothing comes of a factory that never returns: after --load-seconds the worker ends with the reason."""
    _rough(lab, "deaf")
    lab.run(lab.spec())
    worker = _loads_roughly(lab, "blocked", "--load-seconds", "4")
    assert worker.wait(60) == 2
    assert_one_sentence(worker.output, "rough:shard", "--load-seconds 4")
