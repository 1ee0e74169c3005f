"""The identity of a program, written so that another one on the same machine can see whether it still lives.

A holder reads ``HOST:PID:PLACE:START``. The host's name is for people: two machines or containers may share one.
``PLACE`` names the boot and the space of process ids in which ``PID`` means something, and ``START`` is when the
process began, in the kernel's ticks: another process that gets the same number later is not mistaken for it.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

_UNKNOWN = "-"


def this_process() -> str:
    """The holder that this program is."""
    host = platform.node() or "unknown"
    return f"{host}:{os.getpid()}:{_place()}:{_start(os.getpid()) or _UNKNOWN}"


def lives_here(holder: str) -> bool | None:
    """Whether a holder is a process of this machine that still exists; None where that cannot be said.

    What follows the four words (a lease's token) is not looked at.
    """
    words = holder.rsplit(":", 4) if holder.count(":") >= 4 else holder.rsplit(":", 3)
    if len(words) < 4:
        return None
    pid, place, start = words[1:4]
    if place != _place() or place == _UNKNOWN or not pid.isdigit():
        return None
    return _start(int(pid)) == start


def named(holder: str) -> str:
    """The holder for people.

    >>> named("laptop:42:3f9a:7810:ab12")
    'process 42 on laptop'
    """
    host, _, rest = holder.partition(":")
    return f"process {rest.partition(':')[0]} on {host}"


def _place() -> str:
    """The boot and the space of process ids; ``-`` where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        space = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return _UNKNOWN
    return hashlib.blake2b(f"{boot}{space}".encode(), digest_size=4).hexdigest()


def _start(pid: int) -> str | None:
    """When a process began; None if there is none, or only what is left of one that has ended."""
    try:
        # The name in brackets may hold anything, a bracket too.
        words = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in ("Z", "X") else words[19]
