"""Processes that a data factory or a model starts in the training child: they may, and they end with it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.integration.lab import Lab, until

# Each way in which people start processes, in the factory; one pool stays, and so does a program that would never end.
FORKS = """
import multiprocessing, operator, pathlib, subprocess, sys, time
from concurrent.futures import ProcessPoolExecutor
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

KEPT = []

FOREVER = "import os, time; print(os.getpid(), end=' ', file=open('pids', 'a'), flush=True); time.sleep(1e6)"

def forever():
    exec(FOREVER)

class Raw(Dataset):
    def __len__(self): return 40
    def __getitem__(self, i): return torch.full((4,), float(i)), i % 2

def shard(**args):
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.map(operator.neg, [1, 2]) == [-1, -2]
    for method in ("fork", "forkserver"):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
            assert list(pool.map(operator.neg, [1, 2])) == [-1, -2]
    assert subprocess.check_output(["echo", "yes"]) == b"yes\\n"
    x, y = next(iter(DataLoader(Raw(), batch_size=40, num_workers=1)))
    for kind in (False, True):
        process = multiprocessing.Process(target=forever, daemon=kind)
        process.start()
        KEPT.append(process)
    KEPT.append(subprocess.Popen([sys.executable, "-c", FOREVER]))
    pids = pathlib.Path("pids")
    while not pids.exists() or not pids.read_text() or len(pids.read_text().split()) % 3: time.sleep(0.01)
    return TensorDataset(x / 40, y)

def model():
    return nn.Linear(4, 2)
"""


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.timeout(400)  # two children load torch, in turns with whoever else does
def test_a_data_factory_starts_processes_and_none_outlives_the_training_child(lab: Lab) -> None:
    """Loaders, pools and programs work as in a script; they go when the child is killed, and when the worker ends."""
    (lab.folder / "forks.py").write_text(FORKS)
    spec = lab.spec(model={"factory": "forks:model", "args": None}, dispatch={"concurrency": 1}, stop={"updates": 9999})
    coordinator = lab.run(spec)
    worker = lab.worker("forks", "--data", "forks:shard", "--allow", "forks")
    pids = lab.folder / "pids"

    def merged() -> int:
        return sum(line["kind"] == "merge" for line in lab.history())

    until(lambda: merged() >= 2, 150)
    first = [int(pid) for pid in pids.read_text().split()]
    assert len(first) == 3
    assert all(map(_lives, first))
    [child] = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in first}
    os.kill(child, signal.SIGKILL)
    until(lambda: not any(map(_lives, first)), 20)
    before = merged()
    until(lambda: merged() > before, 150)
    second = [int(pid) for pid in pids.read_text().split()[3:]]
    assert len(second) == 3
    worker.send(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert not any(map(_lives, second))
    coordinator.send(signal.SIGINT)
    coordinator.wait(20)
