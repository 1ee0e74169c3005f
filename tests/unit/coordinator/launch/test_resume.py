"""Whether a run begins or goes on is decided from its folder, and no campaign is ever overwritten."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.launch.resume import decide_resume, new_run, newest_run, occupied
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.run_folder import RunFolder
from fl_core.errors import CampaignError, SpecError
from fl_core.spec import parse_spec

SPEC = parse_spec({"model": {"factory": "a:b"}, "campaign": {"name": "digits"}})


def _folder(path: Path, *, phase: str | None = None, complete: bool = False) -> RunFolder:
    """A run's folder: new, or with a campaign in some phase."""
    folder = RunFolder(path)
    if phase is not None:
        meta: dict[str, Any] = {"state": {"phase": phase}, "identity": ["digits-1", b"s", "i", 0], "spec": {}}
        CheckpointStore(str(folder.checkpoint)).save(1, {"x": np.zeros(1, np.float32)}, meta)
    if complete:
        folder.mark_complete("digits-1")
        folder.write_summary({})
        folder.model.write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("phase", "complete", "resume", "auto_resume", "decision"),
    [
        (None, False, False, False, False),
        (None, False, False, True, False),
        (None, False, True, False, True),  # that there is nothing is told at the launch
        ("running", False, True, False, True),
        ("running", False, False, True, True),
        ("finished", False, True, False, True),  # something of its end is missing
        ("finished", True, False, True, None),
    ],
)
def test_a_run_begins_or_goes_on(
    tmp_path: Path, phase: str | None, complete: bool, resume: bool, auto_resume: bool, decision: bool | None
) -> None:
    """Or there is nothing left to do."""
    folder = _folder(tmp_path, phase=phase, complete=complete)
    assert decide_resume(SPEC, folder, resume=resume, auto_resume=auto_resume) is decision


def test_a_campaign_is_not_overwritten_and_an_ended_one_not_resumed(tmp_path: Path) -> None:
    """Each in one sentence with what to do instead."""
    with pytest.raises(SpecError, match="holds a campaign already; go on with --resume, or name another folder"):
        decide_resume(SPEC, _folder(tmp_path / "a", phase="running"), resume=False, auto_resume=False)
    with pytest.raises(CampaignError, match="digits-1 is finished; launch a new one"):
        decide_resume(SPEC, _folder(tmp_path / "b", phase="finished", complete=True), resume=True, auto_resume=False)


def test_runs_of_one_second_get_a_folder_each(tmp_path: Path) -> None:
    """Whoever comes second counts on."""
    names = [new_run("digits", tmp_path / "runs").name for _ in range(3)]
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"digits-\d{8}-\d{6}(-\d)?", name) for name in names)
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="name a folder with --out"):
        new_run("digits", tmp_path / "file")


def test_the_newest_run_is_that_of_the_newest_checkpoint(tmp_path: Path) -> None:
    """Not of a campaign whose name begins the same, and not a folder without one."""
    names = [
        "digits-20260101-000000",
        "digits-20260102-000000-2",
        "digits-20260103-000000",
        "digits-big-20260104-000000",
    ]
    for age, name in enumerate(names):
        (tmp_path / name).mkdir()
        if age != 2:
            (tmp_path / name / "checkpoint").mkdir()
            os.utime(tmp_path / name / "checkpoint", (1000 + age, 1000 + age))
    assert newest_run("digits", tmp_path).name == names[1]
    with pytest.raises(CampaignError, match="there is no run of 'mnist'"):
        newest_run("mnist", tmp_path)


def test_a_folder_has_one_program_at_a_time(tmp_path: Path) -> None:
    """And is free again when that has ended, however it did."""
    folder = _folder(tmp_path, phase="running")
    other = RunFolder(tmp_path)
    with occupied(SPEC, folder, None, resume=True, auto_resume=False) as going_on:
        assert going_on is True
        with (
            pytest.raises(SpecError, match="is in use by process"),
            occupied(SPEC, other, None, resume=True, auto_resume=False),
        ):
            pass
    with occupied(SPEC, other, None, resume=True, auto_resume=False) as again:
        assert again is True
