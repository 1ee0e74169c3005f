"""``history.jsonl``: one line per merge, evaluation, rejection and re-issue, in the order of the update log."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO


class History:
    """Appends lines; after a crash it is cut back to where the checkpoint stood, and the replay writes the rest again.

    Args:
        path: the file; created when missing.
        num_bytes: where the checkpoint stood; what comes after is dropped.
    """

    def __init__(self, path: Path, num_bytes: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # What stands is copied into a new file that takes the old one's name. A coordinator that lost its lease and
        # wakes up later still has the old file open: what it writes there nobody reads.
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        with partial.open("wb") as begun:
            if num_bytes and path.exists():
                with path.open("rb") as before:
                    _copy(before, begun, num_bytes)
        partial.replace(path)
        self._file = path.open("ab")
        self.num_bytes = self._file.tell()

    def append(self, lines: Iterable[dict[str, Any]]) -> None:
        """Write lines through to the file system's cache, so that a reader sees them at once."""
        data = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
        if data:
            self._file.write(data)
            self._file.flush()
            self.num_bytes += len(data)

    def sync(self) -> None:
        """Make what was written durable."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """End writing."""
        self._file.close()


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
