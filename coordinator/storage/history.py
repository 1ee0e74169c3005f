"""``history.jsonl``: one line per merge, evaluation, rejection and re-issue, in the order of the update log."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from coordinator.storage.patient_file import PatientFile
from coordinator.storage.strict_json import strict_json
from fl_core.errors import CampaignError
from fl_core.program.whole_file import whole_file
from fl_core.wire.history import EndLine, HistoryLine, history_line


class History:
    """Appends lines; after a crash it is cut back to where the checkpoint stood, and the replay writes the rest again.

    While the disk is full, lines wait in memory: what was merged is in the history, sooner or later. No checkpoint is
    made meanwhile (``sync`` fails), so that the update log has it all should this program end.

    Args:
        path: the file; created when missing.
        num_bytes: where the checkpoint stood; what comes after is dropped.

    Raises:
        CampaignError: the file cannot be made.
    """

    def __init__(self, path: Path, num_bytes: int = 0) -> None:
        # What stands is copied into a new file that takes the old one's name. A coordinator that lost its lease and
        # wakes up later still has the old file open: what it writes there nobody reads.
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as begun:
                if num_bytes and path.exists():
                    with path.open("rb") as before:
                        _copy(before, begun, num_bytes)
            self._file = PatientFile(path, "the history")
        except OSError as error:
            raise CampaignError(f"{path} cannot be written ({error.strerror}); free space or mend it.") from error

    @property
    def num_bytes(self) -> int:
        """How long it is, with what waits."""
        return self._file.num_bytes

    def append(self, lines: Iterable[HistoryLine]) -> None:
        """Write lines through to the file system's cache, so that a reader sees them at once.

        Raises:
            CampaignError: the disk is full, and too much waits for it.
        """
        if data := b"".join(strict_json(line.to_map()).encode() + b"\n" for line in lines):
            self._file.append(data)

    def sync(self) -> None:
        """Make what was appended until now durable.

        Raises:
            OSError: it is not.
        """
        self._file.sync()

    def close(self) -> None:
        """End writing. What still waits is in the update log, and a resume writes it."""
        self._file.close()


def _copy(source: BinaryIO, target: BinaryIO, num_bytes: int) -> None:
    """The first ``num_bytes``, or all if there are fewer (a standby may have the checkpoint and a shorter file)."""
    while num_bytes > 0 and (block := source.read(min(num_bytes, 2**20))):
        target.write(block)
        num_bytes -= len(block)


class HistoryReader:
    """Reads a history's lines as they come, each once; this is the only reader that there is.

    Args:
        path: the file.
        skip_bytes: begin behind them.
        num_bytes: read up to there and no further; None for the end of the file.

    Attributes:
        state: what the last line of all says of the campaign's end; empty while it goes on.
    """

    def __init__(self, path: Path, skip_bytes: int = 0, num_bytes: int | None = None) -> None:
        self._path = path
        self._offset = skip_bytes
        self._end = math.inf if num_bytes is None else num_bytes
        self.state = ""

    def read(self) -> Iterator[HistoryLine]:
        """The lines since the last call; one that is not whole yet (or cut by a crash) is left for the next.

        A resumed campaign writes its history again up to where it was, to the same bytes: they are not written twice.

        Raises:
            CampaignError: a line is none of a history.
        """
        if self._path.stat().st_size <= self._offset:
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for raw in file:
                if not raw.endswith(b"\n") or self._offset + len(raw) > self._end:
                    return
                try:
                    line = history_line(json.loads(raw))
                except ValueError as error:  # BadMap is one
                    raise CampaignError(
                        f"{self._path} is damaged at byte {self._offset} ({error}); restore it from a copy."
                    ) from error
                self._offset += len(raw)
                self.state = line.state if isinstance(line, EndLine) else ""
                yield line


def read_history(path: Path, skip_bytes: int = 0, num_bytes: int | None = None) -> Iterator[HistoryLine]:
    """The lines of a history file, or those between two places in it.

    Raises:
        CampaignError: a line is none of a history.
    """
    return HistoryReader(path, skip_bytes, num_bytes).read()
