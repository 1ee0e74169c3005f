"""A full disk: what has to be written waits or is tried again, is told once, and leaves no halves behind.

The kernel's limit on the size of files stands in for the end of the disk: writes beyond it fail as on a full one.
"""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import structlog

from coordinator.storage import patient_file
from coordinator.storage import saver as saver_module
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.history import History, read_history
from coordinator.storage.run_folder import RunFolder
from coordinator.storage.saver import Saver
from fl_core.errors import CampaignError, DataError
from fl_core.vectors import Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec
from fl_core.wire.history import PhaseLine
from fl_core.wire.log_entry import LogEntry
from workers.store.memory import DeviceMemory

LINE = PhaseLine(seconds=1.0, state="x" * 100)


@contextlib.contextmanager
def full(max_bytes: int) -> Iterator[None]:
    """No file grows beyond this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_the_history_waits_and_is_whole_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines wait in memory, no checkpoint is made meanwhile, it is told once, and too many end the program."""
    history = History(tmp_path / "history.jsonl")
    with structlog.testing.capture_logs() as told:
        with full(100):
            for _ in range(20):
                history.append([LINE])
            with pytest.raises(OSError, match="File too large"):
                history.sync()
        history.append([LINE])
        history.sync()
    assert list(read_history(tmp_path / "history.jsonl")) == [LINE] * 21
    assert history.num_bytes == (tmp_path / "history.jsonl").stat().st_size
    assert [row["log_level"] for row in told] == ["error", "info"]
    monkeypatch.setattr(patient_file, "MAX_WAITING_BYTES", 50)
    with structlog.testing.capture_logs(), full(100), pytest.raises(CampaignError, match="go on with --resume"):
        for _ in range(3):
            history.append([LINE])
    history.close()


def test_a_history_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    """Also on the way into a resume, where what stands is copied."""
    (tmp_path / "history.jsonl").write_bytes(b"x" * 200)
    with full(100), pytest.raises(CampaignError, match="cannot be written"):
        History(tmp_path / "history.jsonl", 200)
    assert [path.name for path in tmp_path.iterdir()] == ["history.jsonl"]


def test_checkpoints_are_tried_again_and_the_log_is_not_trimmed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told once; when the log is full as well, no new tasks; with room again, all of it is covered at once."""
    monkeypatch.setattr(saver_module, "RETRY_SECONDS", 0.0)
    writer: Any = SimpleNamespace(fence=1)
    saver = Saver(CheckpointStore(str(tmp_path)), writer, lambda seconds: None)
    tensors = {"x": np.zeros(1000, np.float32)}

    def save(position: str) -> None:
        saver.note(LogEntry(position, "u", b"h" * 100, b""), None)
        saver.save(tensors, {}, position, 0, before=lambda: None)
        saver.wait()

    with structlog.testing.capture_logs() as told:
        with full(1000):
            for second in range(1, 4):
                save(f"{second}-0")
                assert saver.failure is not None
                assert "free space" in saver.failure
                assert saver.is_due(10**6, 10**6, 10**6, 0)
            assert not list(tmp_path.iterdir())
            assert saver.take_covered(250) is None
            assert saver.is_stuck(250)
            assert not saver.is_stuck(350)
        save("4-0")
    assert saver.failure is None
    assert not saver.is_stuck(250)
    covered = saver.take_covered(250)
    assert covered is not None
    assert covered.position == "4-0"
    assert [row["log_level"] for row in told if row["log_level"] != "debug"] == ["error", "error", "info"]


def test_neither_a_model_nor_a_devices_memory_leaves_half_a_file(tmp_path: Path) -> None:
    """One sentence, and what stood before stands."""
    folder, layout = RunFolder(tmp_path / "run"), Layout((TensorSpec("weight", (1000,)),))
    memory = DeviceMemory(tmp_path / "state", "digits-1")
    folder.write_model(Parameters(np.ones(1000, np.float32)), layout, {"version": "1"})
    memory["residual"] = np.ones(1000, np.float32)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with full(1000):
        with pytest.raises(CampaignError, match="go on with --resume"):
            folder.write_model(Parameters(np.zeros(1000, np.float32)), layout, {"version": "2"})
        with pytest.raises(DataError, match="cannot be written"):
            memory["residual"] = np.zeros(1000, np.float32)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
