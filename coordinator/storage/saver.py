"""Makes checkpoints durable beside the merging, and knows which part of the log each of them covers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from coordinator.storage.checkpoint import Begun, CheckpointStore
from coordinator.storage.tensor_file import Arrays
from fl_core.broker.lease import Writer
from fl_core.broker.log import START
from fl_core.clock import MACHINE, Clock
from fl_core.errors import CampaignError
from fl_core.spec import CheckpointSection
from fl_core.vectors.layout import Layout
from fl_core.wire.log_entry import LogEntry, order

log = structlog.get_logger()

# After one that failed: a full disk stays full for a while.
RETRY_SECONDS = 2.0
# A checkpoint of a large model costs more than an update of it.
CHECKPOINT_UPDATES = 4


@dataclass(frozen=True, slots=True)
class Covered:
    """A part of the log that durable checkpoints have made superfluous: up to a position, with its payloads' blobs."""

    position: str
    blobs: list[tuple[str, int]]


def max_log_bytes(settings: CheckpointSection, layout: Layout) -> int:
    """So much of the update log may wait for checkpoints: one of a large model is not written after every update."""
    return max(settings.every_log_bytes, CHECKPOINT_UPDATES * 4 * layout.num_moving)


class Saver:
    """At most one checkpoint is being written at a time, by a thread of its own.

    A failed save does not stop the campaign: the log keeps what it does not cover, the next one is tried in time, and
    the log line says what to do.

    Entries are not superfluous as soon as a checkpoint covers them: while there is room, they stay until the next one
    is durable too. Should the newest one turn out to be damaged, the one before and the log still give the same bits.

    Args:
        store: where checkpoints go.
        writer: whose fence they carry.
        on_saved: called with how many seconds each one took, in the thread that wrote it.
        clock: this machine's.

    Attributes:
        failure: why the last save failed, in one sentence; None when it did not.
    """

    def __init__(
        self, store: CheckpointStore, writer: Writer, on_saved: Callable[[float], None], clock: Clock = MACHINE
    ) -> None:
        self._clock = clock
        self._store = store
        self._writer = writer
        self._on_saved = on_saved
        self._thread: threading.Thread | None = None
        self._saved: list[tuple[str, int]] = []
        self._newest: str | None = None
        self._trimmed = self._superfluous = START
        self._blobs: deque[tuple[str, tuple[str, int]]] = deque()
        self._log_bytes = 0
        self._kept_bytes = 0
        self._merged = 0
        self._last_start = self._last_success = self._clock.monotonic()
        self._hurry = False
        self._failed_bytes = 0
        self._retry_at = 0.0
        self._told_stuck = False
        self.failure: str | None = None

    @property
    def age_seconds(self) -> float:
        """Time since the newest whole checkpoint."""
        return self._clock.monotonic() - self._last_success

    def note(self, entry: LogEntry, blob: tuple[str, int] | None) -> None:
        """An entry was applied: from now on the next checkpoint covers it."""
        self._log_bytes += entry.num_bytes + (blob[1] if blob else 0)
        if blob is not None:
            self._blobs.append((entry.position, blob))

    def note_covered(self, position: str, num_bytes: int, blob: tuple[str, int] | None) -> None:
        """The log still holds this entry, which the checkpoint that was loaded covers."""
        self._newest = position
        self._kept_bytes += num_bytes + (blob[1] if blob else 0)
        if blob is not None:
            self._blobs.append((position, blob))

    def save_soon(self) -> None:
        """Make the next checkpoint due at once."""
        self._hurry = True

    def is_due(self, every_merges: int, every_seconds: float, every_log_bytes: int, merged: int) -> bool:
        """Whether one of the limits is reached and no checkpoint is being written."""
        if self._thread is not None and self._thread.is_alive():
            return False
        if self._clock.monotonic() < self._retry_at:
            return False
        if self._hurry or self.failure is not None:
            return True
        if not self._log_bytes:
            return False
        return (
            merged - self._merged >= every_merges
            or self._clock.monotonic() - self._last_start >= every_seconds
            or self._log_bytes >= every_log_bytes
        )

    def save(
        self, tensors: Arrays, meta: Mapping[str, Any], position: str, merged: int, before: Callable[[], None]
    ) -> None:
        """Write the state down; making it durable goes on in the thread.

        Args:
            tensors, meta: of the state, which may change when this returns.
            position, merged: where the state stands.
            before: called in the thread, before the checkpoint counts.
        """
        self.wait()
        self._hurry = False
        self._merged = merged
        num_bytes, self._log_bytes, self._failed_bytes = self._log_bytes + self._failed_bytes, 0, 0
        self._last_start = self._clock.monotonic()
        try:
            begun = self._store.begin(self._writer.fence, tensors, meta)
        except CampaignError as error:
            self._fail(error, num_bytes)
            return
        arguments = (begun, position, num_bytes, before)
        self._thread = threading.Thread(target=self._finish, args=arguments, name="checkpoint")
        self._thread.start()

    def take_covered(self, max_bytes: int) -> Covered | None:
        """What may go: all that the checkpoint before the newest covers, and for want of room what the newest covers.

        Args:
            max_bytes: so much of the log may wait for checkpoints.
        """
        while self._saved:
            position, num_bytes = self._saved.pop(0)
            self._superfluous = self._newest or self._superfluous
            self._newest, self._kept_bytes = position, num_bytes
        if self._newest is not None and 2 * (self._kept_bytes + self._log_bytes + self._failed_bytes) > max_bytes:
            self._superfluous, self._kept_bytes = self._newest, 0
        if order(self._superfluous) <= order(self._trimmed):
            return None
        self._trimmed = self._superfluous
        covered = []
        while self._blobs and order(self._blobs[0][0]) <= order(self._trimmed):
            covered.append(self._blobs.popleft()[1])
        return Covered(self._trimmed, covered)

    def is_stuck(self, max_bytes: int) -> bool:
        """Whether checkpoints fail, and the update log has grown as far as it may without one."""
        if self.failure is None or self._kept_bytes + self._log_bytes + self._failed_bytes <= max_bytes:
            return False
        if not self._told_stuck:
            self._told_stuck = True
            log.error("no new tasks until a checkpoint can be written: the update log is full", reason=self.failure)
        return True

    def all_blobs(self) -> list[tuple[str, int]]:
        """The blobs of every entry that is still in the log."""
        return [blob for _, blob in self._blobs]

    def wait(self) -> None:
        """Until no checkpoint is being written."""
        if self._thread is not None:
            self._thread.join()

    def drop_earlier(self) -> None:
        """Remove all checkpoints but the newest.

        Raises:
            CampaignError: they cannot be removed.
        """
        self.wait()
        try:
            self._store.drop_earlier()
        except OSError as error:
            raise CampaignError(f"a checkpoint cannot be removed ({error}); go on with --resume.") from error

    def close(self) -> None:
        """Let a checkpoint that is being written end."""
        self.wait()

    def _finish(self, begun: Begun, position: str, num_bytes: int, before: Callable[[], None]) -> None:
        try:
            before()
            self._store.finish(begun)
        except Exception as error:  # a file system of somebody else's may raise anything
            self._fail(error, num_bytes)
            return
        if self.failure is not None:
            log.info("checkpoints are written again")
        self.failure, self._told_stuck = None, False
        self._saved.append((position, num_bytes))
        self._last_success = self._clock.monotonic()
        seconds = self._last_success - self._last_start
        self._on_saved(seconds)
        log.debug("checkpoint", position=position, seconds=round(seconds, 3))

    def _fail(self, error: Exception, num_bytes: int) -> None:
        sentence = str(error) if isinstance(error, CampaignError) else f"the history cannot be written ({error})."
        if self.failure is None:
            log.error(
                "checkpoint failed; the update log keeps what it would have covered, and it is tried again",
                reason=sentence,
            )
        self.failure = sentence
        self._failed_bytes = num_bytes
        self._retry_at = self._clock.monotonic() + RETRY_SECONDS
