"""One program per run's folder: a lock that the kernel gives back however its holder ends, and that says who has it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from coordinator.storage.holder import lives_here, named, this_process
from fl_core.errors import SpecError

NAME = ".lock"
# What a killed program left running (its evaluation, its embedded server) ends within moments.
AFTERMATH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Occupant:
    """Who has a folder: its holder (``holder.py``) and the broker that it works with, without a password."""

    holder: str
    broker: str

    def __str__(self) -> str:
        return f"{named(self.holder)}, on the broker {self.broker}"


class FolderLock:
    """The lock of one folder, given back when it is released, and when the program ends.

    Args:
        folder: it exists.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file: int | None = None

    def take(self, broker: str) -> Occupant | None:
        """Take it for a run on a broker, or say who has it.

        Raises:
            SpecError: the folder cannot be written.
        """
        deadline = time.monotonic() + AFTERMATH_SECONDS
        while not self._try():
            occupant = self._occupant()
            if lives_here(occupant.holder) is not False or time.monotonic() > deadline:
                return occupant
            time.sleep(0.05)
        self._write(Occupant(this_process(), broker))
        return None

    def take_over(self, broker: str) -> None:
        """Take it if it is free: this run had to wait for another one, which has ended or is shut out by its lease."""
        if self._file is None and self._try():
            self._write(Occupant(this_process(), broker))

    def release(self) -> None:
        """Give it back, if it was taken."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _try(self) -> bool:
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SpecError(
                f"--out {self._path.parent} cannot be written ({error.strerror}); name a folder that can be."
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        return True

    def _write(self, occupant: Occupant) -> None:
        data = json.dumps({"holder": occupant.holder, "broker": occupant.broker}).encode()
        try:
            os.ftruncate(self._file or 0, 0)
            os.pwrite(self._file or 0, data, 0)
        except OSError:
            pass  # a full disk: it is locked all the same, and only cannot say by whom

    def _occupant(self) -> Occupant:
        try:
            told = json.loads(self._path.read_text())
            return Occupant(str(told["holder"]), str(told["broker"]))
        except (OSError, ValueError, KeyError, TypeError):
            return Occupant("unknown", "unknown")
