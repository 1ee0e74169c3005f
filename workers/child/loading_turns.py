"""Loading torch in turns: where many workers share a machine, as many at once as it has processors.

Loading is seconds of pure computing. All at once, the workers of one machine would all be ready when the last one is;
in turns the first are ready in a fraction of that time, and the last ones no later.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LOOK_SECONDS = 0.02
# Longer than any loading takes: a worker that hangs in it must not hold up the others for good.
MAX_WAIT_SECONDS = 60.0


@contextlib.contextmanager
def turn(folder: Path | None = None, at_once: int | None = None) -> Iterator[None]:
    """Hold one of ``at_once`` places while the block runs; the kernel frees the place of a process that dies.

    Where no place can be had, the block runs all the same: this is a courtesy, and no lock.

    Args:
        folder: where the places' files are; this user's own on this machine by default.
        at_once: how many places there are; the processors that this process may use by default.
    """
    place = _take(folder, at_once or _num_processors())
    try:
        yield
    finally:
        if place is not None:
            os.close(place)


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"fedtide-{os.getuid()}"


def _take(folder: Path | None, at_once: int) -> int | None:
    give_up = time.monotonic() + MAX_WAIT_SECONDS
    try:
        folder = folder or _folder()
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            return None  # a program that made it before us must not choose what is opened there
        while time.monotonic() < give_up:
            for number in range(at_once):
                path = folder / f"loading-{number}"
                place = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                try:
                    fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return place
                except BlockingIOError:
                    os.close(place)
            time.sleep(LOOK_SECONDS)
    except OSError:
        pass  # a file system without locks, one that cannot be written, or no folder for temporary files at all
    return None
