"""What a recording is: a campaign's updates as its log has kept them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.campaign.identity import Identity
from coordinator.simulation.recorded import Arrival, read_recording
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.kept_log import KeptLog
from coordinator.storage.run_folder import RunFolder
from fl_core.errors import SpecError
from fl_core.wire.log_entry import LogEntry
from fl_core.wire.messages import ModelUpdate
from tests.unit.workers.tasks import TASK

IDENTITY = Identity("digits-1", b"s" * 32, "i", 5)
UPDATE = ModelUpdate(
    campaign=TASK.campaign, task_id=TASK.task_id, attempt=1, worker="pi", base_version=0, num_examples=10,
    sends="delta", codec="fp32", layout_digest=TASK.layout_digest, payload_bytes=4, payload_digest="b" * 32, blob="",
    num_chunks=0, bytes_down=0, metrics={}, seconds={},
)  # fmt: skip


def _leave(path: Path, entries: list[LogEntry]) -> None:
    folder = RunFolder(path)
    log = KeptLog(folder.kept_log, [], 1, IDENTITY.secret)
    for entry in entries:
        log.note(entry)
    identity = [IDENTITY.campaign, IDENTITY.secret, IDENTITY.incarnation, IDENTITY.created_ms]
    log.sync()
    meta = {"identity": identity, "kept_log": log.parts, "state": {"phase": "finished"}}
    store = CheckpointStore(str(folder.checkpoint))
    store.save(1, {}, meta)
    log.close()


def test_each_update_arrives_once(tmp_path: Path) -> None:
    """In the log's order; events, reports, what cannot be read and a second delivery are left out."""
    second = replace(UPDATE, task_id="2-abc", worker="laptop", base_version=4)
    _leave(tmp_path, [
        LogEntry("10-0", "e", b"event", b"mac"),
        LogEntry("11-0", "u", UPDATE.to_bytes(), b"1234"),
        LogEntry("12-0", "u", b"\xc1", b""),
        LogEntry("13-7", "u", second.to_bytes(), b"1234"),
        LogEntry("14-0", "u", UPDATE.to_bytes(), b"1234"),
        LogEntry("15-0", "r", b"report", b""),
    ])  # fmt: skip
    recording = read_recording(tmp_path)
    assert recording.identity == IDENTITY
    assert recording.arrivals == [Arrival(11, "pi", "1-abc", 1, 0), Arrival(13, "laptop", "2-abc", 1, 4)]


def test_a_run_without_a_log_is_no_recording(tmp_path: Path) -> None:
    """It says what would keep one."""
    with pytest.raises(SpecError, match=r"run it with checkpoint.keep_log = true"):
        read_recording(tmp_path)
