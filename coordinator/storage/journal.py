"""Records of each entry beside checkpoints: the history for people, and the log where it is kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from coordinator.storage.history import History
from coordinator.storage.kept_log import KeptLog
from fl_core.wire.history import HistoryLine
from fl_core.wire.log_entry import LogEntry


class Journal:
    """Both, for whom it is the same whether the log is kept.

    Args:
        history: the run's.
        kept_log: where all that is applied is written down; None for nowhere.
    """

    def __init__(self, history: History, kept_log: KeptLog | None) -> None:
        self._history = history
        self._kept_log = kept_log

    def note(self, entry: LogEntry, lines: Iterable[HistoryLine]) -> None:
        """An entry was applied, and these lines of the history are what it led to."""
        if self._kept_log is not None:
            self._kept_log.note(entry)
        self._history.append(lines)

    def begin_life(self, secret: bytes) -> None:
        """What comes now is under another secret."""
        if self._kept_log is not None:
            self._kept_log.begin_life(secret)

    def sync(self) -> None:
        """Make all of it durable.

        Raises:
            OSError: it is not.
        """
        if self._kept_log is not None:
            self._kept_log.sync()
        self._history.sync()

    def export(self) -> dict[str, Any]:
        """How much of it counts as of now, for a checkpoint."""
        kept = {} if self._kept_log is None else {"kept_log": self._kept_log.parts}
        return {"history_bytes": self._history.num_bytes, **kept}

    def close(self) -> None:
        """End writing."""
        self._history.close()
        if self._kept_log is not None:
            self._kept_log.close()
