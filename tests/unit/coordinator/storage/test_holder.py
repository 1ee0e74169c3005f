"""Whether the program that holds something still lives, where that can be said at all."""

from __future__ import annotations

import subprocess
import sys

import pytest

from coordinator.storage.holder import lives_here, named, this_process


def test_this_process_lives() -> None:
    """Also with a lease's token behind it."""
    assert lives_here(this_process())
    assert lives_here(f"{this_process()}:a1b2c3")
    assert named(this_process()).startswith("process ")


def test_one_that_has_ended_does_not() -> None:
    """Nor does another process that has its number by now: it began later."""
    ended = subprocess.run(
        [sys.executable, "-c", "from coordinator.storage.holder import this_process; print(this_process())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert lives_here(ended) is False
    host, pid, place, _ = this_process().rsplit(":", 3)
    assert lives_here(f"{host}:{pid}:{place}:1") is False


@pytest.mark.parametrize("holder", ["", "here/1", "a:b:c", "laptop:42:ffffffff:7810", "laptop:x:-:1"])
def test_of_another_machine_nothing_can_be_said(holder: str) -> None:
    """Its numbers mean nothing here: neither dead nor alive."""
    assert lives_here(holder) is None
