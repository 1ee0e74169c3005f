"""``history.jsonl``: one line per merge, evaluation, rejection and re-issue, in the order of the update log."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from coordinator.storage.patient_file import PatientFile
from coordinator.storage.strict_json import strict_json
from fl_core.errors import CampaignError
from fl_core.program.whole_file import whole_file


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

    def append(self, lines: Iterable[dict[str, Any]]) -> None:
        """Write lines through to the file system's cache, so that a reader sees them at once.

        Raises:
            CampaignError: the disk is full, and too much waits for it.
        """
        if data := b"".join(strict_json(line).encode() + b"\n" for line in lines):
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


def scores_of(line: Mapping[str, Any]) -> dict[str, float | None]:
    """Loss and metrics of an evaluation's line, by name: those that the spec names first come first, the loss is last.

    A number that could not be had is None. An earlier release's lines have accuracy alone.
    """
    metrics = line.get("metrics")
    found = {**({"accuracy": line["accuracy"]} if metrics is None else metrics), "loss": line["loss"]}
    # Python reads NaN where an earlier release wrote it.
    return {name: value if value is not None and math.isfinite(value) else None for name, value in found.items()}


def read_history(path: Path, skip_bytes: int = 0) -> Iterator[dict[str, Any]]:
    """The lines of a history file, or those behind a place in it; an incomplete last line (a crash) is left out."""
    with path.open("rb") as file:
        file.seek(skip_bytes)
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)
