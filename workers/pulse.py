"""The training child's reports to its parent, in shared memory, so that the parent can beat while the child trains."""

from __future__ import annotations

import mmap
import struct
import time
import zlib
from dataclasses import dataclass

from fl_core.wire.states import WORKER_STATES
from workers.child.tally import Tally

_NUMBERS = struct.Struct("<IIQQQQ")
_TIMES = struct.Struct("<dd")
_TEXT_BYTES = 2048
_SIZE = _NUMBERS.size + _TEXT_BYTES + _TIMES.size
_MOVED = struct.Struct("<d")
_RECALLED = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Vitals:
    """The child's last word.

    Attributes:
        pid: of the child; 0 before it has started.
        holding: the task in hand (``campaign/task_id#attempt``) or empty.
        device: where it computes; empty before torch was loaded.
        trouble: what fails here again and again, in one sentence; empty where all works.
        fatal: why this worker can do no task at all, in one sentence; empty while it can.
        since: when what ``limit`` bounds began, on the machine's clock that never jumps (``time.monotonic``).
        limit: seconds that other people's code may take now (the task's limit); 0 while it has not the word.
    """

    pid: int = 0
    state: str = "idle"
    num_done: int = 0
    num_failed: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    holding: str = ""
    device: str = ""
    trouble: str = ""
    fatal: str = ""
    since: float = 0.0
    limit: float = 0.0


class Pulse:
    """One page of memory, made before the fork: the child writes it, the parent reads it.

    There is no lock: a torn read shows in one beat and is gone in the next.

    Attributes:
        tally: counts of tasks that ended, and of their times.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)
        self.tally = Tally()

    def write(self, vitals: Vitals) -> None:
        """Replace what the parent sees."""
        numbers = _NUMBERS.pack(
            vitals.pid,
            WORKER_STATES.index(vitals.state),
            vitals.num_done,
            vitals.num_failed,
            vitals.bytes_up,
            vitals.bytes_down,
        )
        text = (
            "\0".join(
                (
                    vitals.holding,
                    vitals.device,
                    vitals.trouble.replace("\0", " ")[:300],
                    vitals.fatal.replace("\0", " "),
                )
            )
            .encode(errors="replace")[: _TEXT_BYTES - 1]
            .ljust(_TEXT_BYTES, b"\0")
        )
        times = _TIMES.pack(vitals.since, vitals.limit)
        self._page[:_SIZE] = numbers + text + times

    def allow(self, since: float, limit: float) -> None:
        """Replace ``since`` and ``limit`` alone: this is done several times in each task."""
        _TIMES.pack_into(self._page, _SIZE - _TIMES.size, since, limit)

    def note_moved(self) -> None:
        """In the child: bytes of a version or of an update have moved now."""
        _MOVED.pack_into(self._page, _SIZE, time.monotonic())

    @property
    def moved_at(self) -> float:
        """When they last did (``time.monotonic``)."""
        return float(_MOVED.unpack_from(self._page, _SIZE)[0])

    def recall(self, holding: str) -> None:
        """In the parent: nobody waits for what the child holds any more."""
        _RECALLED.pack_into(self._page, _SIZE + _MOVED.size, zlib.crc32(holding.encode()))

    def is_recalled(self, holding: str) -> bool:
        """In the child: whether that was said of what it holds."""
        return bool(_RECALLED.unpack_from(self._page, _SIZE + _MOVED.size)[0] == zlib.crc32(holding.encode()))

    def read(self) -> Vitals:
        """What the child wrote last."""
        data = self._page[:_SIZE]
        pid, state, done, failed, up, down = _NUMBERS.unpack(data[: _NUMBERS.size])
        texts = data[_NUMBERS.size : _NUMBERS.size + _TEXT_BYTES].split(b"\0")
        holding, device, trouble, fatal = (text.decode(errors="replace") for text in texts[:4])
        since, limit = _TIMES.unpack(data[-_TIMES.size :])
        return Vitals(pid, WORKER_STATES[state], done, failed, up, down, holding, device, trouble, fatal, since, limit)
