"""Who runs in a folder: locks end with their holder, holders are told apart by more than a host's name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.launch.resume import new_run, newest_run
from coordinator.storage.folder_lock import FolderLock
from coordinator.storage.holder import lives_here, this_process
from fl_core.errors import CampaignError

HOLD = """
import sys, time
from pathlib import Path
from coordinator.storage.folder_lock import FolderLock
from coordinator.storage.holder import this_process
lock = FolderLock(Path(sys.argv[1]))
assert lock.take("redis://there") is None
print(this_process(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another program that has the folder, and the holder that it is."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        yield program, program.stdout.readline().strip()
        program.kill()


def test_a_lock_says_who_has_it_and_ends_with_a_kill(holder: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    """While the other lives, it is named; after SIGKILL the folder is free at once."""
    program, name = holder
    lock = FolderLock(tmp_path)
    occupant = lock.take("redis://here")
    assert occupant is not None
    assert (occupant.holder, occupant.broker) == (name, "redis://there")
    assert str(program.pid) in str(occupant)
    assert lives_here(name) is True
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    assert lives_here(name) is False
    assert lock.take("redis://here") is None
    lock.release()


def test_a_holder_is_judged_only_where_its_process_ids_mean_something() -> None:
    """Same host and number: another boot or container is not this one, and another start is another process."""
    host, pid, place, start = this_process().rsplit(":", 3)
    token = ":0123abcd"
    assert lives_here(f"{host}:{pid}:{place}:{start}") is True
    assert lives_here(f"{host}:{pid}:{place}:{start}{token}") is True
    assert lives_here(f"elsewhere:{pid}:{place}:{start}{token}") is True
    assert lives_here(f"{host}:{pid}:00000000:{start}{token}") is None
    assert lives_here(f"{host}:{pid}:{place}:1{token}") is False
    for odd in ("", "a:1", f"{host}:{pid}{token}", f"{host}:x:{place}:{start}{token}"):
        assert lives_here(odd) is None


def test_launches_of_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    """Made, not only named, so that no two can have the same."""
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_run("digits", tmp_path), range(24)))
    assert len(set(folders)) == 24
    assert all(folder.is_dir() for folder in folders)


def test_a_resume_does_not_take_a_campaign_whose_name_begins_alike(tmp_path: Path) -> None:
    """Of runs/digits-... and runs/digits-big-..., the name `digits` means the first."""
    for name in ("digits-20261101-101010", "digits-20261101-101010-2", "digits-big-20261102-101010"):
        (tmp_path / name / "checkpoint").mkdir(parents=True)
        os.utime(tmp_path / name / "checkpoint", (1, len(name)))
    assert newest_run("digits", tmp_path).name == "digits-20261101-101010-2"
    with pytest.raises(CampaignError, match="no run of 'big'"):
        newest_run("big", tmp_path)
