"""A file that only grows. While the disk is full, what comes waits in memory, and :meth:`PatientFile.sync` fails."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import structlog

from fl_core.errors import CampaignError

log = structlog.get_logger()

MAX_WAITING_BYTES = 64 * 2**20


class PatientFile:
    """Appends to a file that is there.

    Args:
        path: the file.
        what: it holds, for people: "the history".

    Attributes:
        num_bytes: how long it is, with what waits.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._told = False
        self.num_bytes = self._file.tell()

    def append(self, data: bytes) -> None:
        """Write through to the file system's cache, so that a reader sees it at once.

        Raises:
            CampaignError: the disk is full, and too much waits for it.
        """
        with self._lock:
            self._waiting += data
            self.num_bytes += len(data)
            error = self._write()
        if error is None:
            return
        if not self._told:
            self._told = True
            log.error(
                f"{self._what} cannot be written: it waits in memory, and no checkpoint is made meanwhile",
                file=str(self._path), reason=error.strerror, remedy="free space or mend it",
            )  # fmt: skip
        if len(self._waiting) > MAX_WAITING_BYTES:
            raise CampaignError(
                f"{self._path} cannot be written ({error.strerror}), and {len(self._waiting)} bytes wait for it; free "
                "space or mend it, and go on with --resume."
            )

    def sync(self) -> None:
        """Make what was appended until now durable.

        Raises:
            OSError: it is not.
        """
        with self._lock:
            error = self._write()
        if error is not None:
            raise error
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """End writing. What still waits is in the update log, and a resume writes it."""
        with self._lock:
            self._write()
        self._file.close()

    def _write(self) -> OSError | None:
        try:
            while self._waiting:
                del self._waiting[: self._file.write(self._waiting) or 0]
        except OSError as error:
            return error
        if self._told:
            self._told = False
            log.info(f"{self._what} is written again", file=str(self._path))
        return None
