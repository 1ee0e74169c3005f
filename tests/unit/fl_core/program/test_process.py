"""Processes that end with others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from fl_core.program.process import end_group

LEADER = """
import subprocess, sys
from fl_core.program.process import lead_group
lead_group()
left = subprocess.Popen(["sleep", "1000"])
print(left.pid, flush=True)
"""


def test_a_group_ends_with_what_its_dead_leader_left_behind() -> None:
    """The leader has ended in peace and was waited for; what it had started goes, and a second time nothing happens."""
    leader = subprocess.Popen([sys.executable, "-c", LEADER], stdout=subprocess.PIPE, text=True)
    assert leader.stdout is not None
    left = int(leader.stdout.readline())
    assert leader.wait(20) == 0
    assert os.getpgid(left) == leader.pid
    end_group(leader.pid)
    leader.stdout.read()  # until the last process that holds its far end is gone
    end_group(leader.pid)


def test_no_leader_is_nobody() -> None:
    """0 and 1 would mean our own group and everybody."""
    before = signal.getsignal(signal.SIGTERM)
    for leader in (-1, 0, 1):
        end_group(leader)
    assert signal.getsignal(signal.SIGTERM) == before
