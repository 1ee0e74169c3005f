"""Child processes that end with their parent, also when the parent is killed, and with them what they have started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import types
from collections.abc import Iterator

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, signum: int = signal.SIGKILL) -> None:
    """Called in a child: let the kernel send ``signum`` when the thread that started it has ended (Linux only).

    Args:
        parent: the parent's process id as the parent knew it; if it has already ended, the child ends at once.
        signum: SIGKILL for a process that holds nothing, SIGTERM for one that should tidy up.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signum))
        if os.getppid() != parent:
            os.kill(os.getpid(), signum)


def lead_group() -> None:
    """Called in a child: it and the processes that it will start form a group, which ``end_group`` can end."""
    os.setpgid(0, 0)


def end_group(leader: int) -> None:
    """End what a child that called ``lead_group`` has started and left behind, and the child too, at once.

    Args:
        leader: its process id; it need not live any more. Nothing happens where nobody is left.
    """
    if leader > 1:  # others mean our own group, or everybody
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def how_it_ended(code: int | None) -> str:
    """An exit code as Python's libraries give it, in words.

    >>> how_it_ended(3), how_it_ended(-9)
    ('ended with code 3', 'was killed by SIGKILL, perhaps for want of memory')
    """
    if code is None:
        return "does not end"
    if code >= 0:
        return f"ended with code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"was killed by signal {-code}"
    why = {signal.SIGKILL: ", perhaps for want of memory", signal.SIGSEGV: ", a crash below Python"}.get(number, "")
    return f"was killed by {number.name}{why}"


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """While it lasts, a new interpreter of ``multiprocessing`` does not run this program's main file again.

    It would, to find what was pickled from there; a script of three lines without a guard would launch its campaign
    once more. Children that need nothing of it are started within this.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
