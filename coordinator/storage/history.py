"""``history.jsonl``: one line per merge, evaluation, rejection and re-issue, in the order of the update log."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import structlog

from fl_core.errors import CampaignError
from fl_core.program.whole_file import whole_file

log = structlog.get_logger()

# Some hundred thousand merges.
MAX_WAITING_BYTES = 64 * 2**20


class History:
    """Appends lines; after a crash it is cut back to where the checkpoint stood, and the replay writes the rest again.

    While the disk is full, lines wait in memory: what was merged is in the history, sooner or later. No checkpoint is
    made meanwhile (``sync`` fails), so that the update log has it all should this program end.

    Args:
        path: the file; created when missing.
        num_bytes: where the checkpoint stood; what comes after is dropped.

    Attributes:
        num_bytes: how long it is, with what waits.

    Raises:
        CampaignError: the file cannot be made.
    """

    def __init__(self, path: Path, num_bytes: int = 0) -> None:
        self._path = path
        # What stands is copied into a new file that takes the old one's name. A coordinator that lost its lease and
        # wakes up later still has the old file open: what it writes there nobody reads.
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as begun:
                if num_bytes and path.exists():
                    with path.open("rb") as before:
                        _copy(before, begun, num_bytes)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise CampaignError(f"{path} cannot be written ({error.strerror}); free space or mend it.") from error
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._told = False
        self.num_bytes = self._file.tell()

    def append(self, lines: Iterable[dict[str, Any]]) -> None:
        """Write lines through to the file system's cache, so that a reader sees them at once.

        Raises:
            CampaignError: the disk is full, and too much waits for it.
        """
        data = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
        if not data:
            return
        with self._lock:
            self._waiting += data
            self.num_bytes += len(data)
            error = self._write()
        if error is None:
            return
        if not self._told:
            self._told = True
            log.error(
                "the history cannot be written: it waits in memory, and no checkpoint is made meanwhile",
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
            log.info("the history is written again", file=str(self._path))
        return None


def _copy(source: BinaryIO, target: BinaryIO, num_bytes: int) -> None:
    """The first ``num_bytes``, or all if there are fewer (a standby may have the checkpoint and a shorter file)."""
    while num_bytes > 0 and (block := source.read(min(num_bytes, 2**20))):
        target.write(block)
        num_bytes -= len(block)


def read_history(path: Path, skip_bytes: int = 0) -> Iterator[dict[str, Any]]:
    """The lines of a history file, or those behind a place in it; an incomplete last line (a crash) is left out."""
    with path.open("rb") as file:
        file.seek(skip_bytes)
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)
