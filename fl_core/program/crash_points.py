"""Named places where a test may kill the coordinator, to show that resuming from there loses nothing.

``FEDTIDE_CRASH_AT=name:n`` ends the process with SIGKILL at the n-th visit of that place. Without it, a visit costs one
comparison.
"""

from __future__ import annotations

import os
import signal

_wanted, _, _count = os.environ.get("FEDTIDE_CRASH_AT", "").partition(":")
_left = int(_count or 1)


def crash_point(name: str) -> None:
    """Die here, if a test asked for it."""
    global _left
    if name != _wanted:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
