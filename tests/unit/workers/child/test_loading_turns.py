"""Loading torch in turns."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from workers.child import loading_turns as turns
from workers.child.loading_turns import turn


def test_no_more_than_so_many_hold_a_turn_at_once(tmp_path: Path) -> None:
    """Six that come together with two places: never more than two inside, and all get through."""
    inside, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(6)

    def load() -> None:
        nonlocal inside, most
        together.wait()
        with turn(tmp_path, at_once=2):
            with lock:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.05)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (inside, most) == (0, 2)


def test_a_process_that_is_killed_gives_its_turn_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel holds the lock, so that nobody waits for the dead."""
    program = "import sys, time; from pathlib import Path; from workers.child.loading_turns import turn\n"
    program += "with turn(Path(sys.argv[1]), 1): print('in', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"in\n"
        monkeypatch.setattr(turns, "MAX_WAIT_SECONDS", 0.1)
        assert turns._take(tmp_path, 1) is None
        process.kill()
    place = turns._take(tmp_path, 1)
    assert place is not None
    os.close(place)


def test_where_there_are_no_places_nobody_waits(tmp_path: Path) -> None:
    """A folder that cannot be made costs the courtesy, not the work."""
    taken = tmp_path / "file"
    taken.write_text("")
    with turn(taken / "below", at_once=1):
        assert taken.is_file()
