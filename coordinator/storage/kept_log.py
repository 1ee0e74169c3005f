"""The log that is kept (``checkpoint.keep_log``): all that the coordinator has applied, in the run's folder.

The coordinator writes down what it has read, so it is whole whatever a server forgets, and the server's own log is
trimmed as ever. Each coordinator writes a file of its own, and each checkpoint says how much of which files counts:
what one that died, or lost its lease, has written behind that is left alone. A file is a row of msgpack records:

===========================================  ==========================================================================
``["life", secret]``                         the entries from here on are under this secret
``["payload", name, bytes]``                 what the next entry's payload was, where it did not ride in the entry
``["lost", name]``                           it was not to be had
``["entry", position, kind, header, bytes]`` an entry, with what rides in it
===========================================  ==========================================================================
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack

from coordinator.storage.patient_file import PatientFile
from fl_core.errors import CampaignError, PayloadLost
from fl_core.wire.log_entry import LogEntry

Fetch = Callable[[str, int], memoryview]
Part = tuple[str, int]
"""A file's name, and how many of its bytes count."""

_BLOCK = 2**20


class KeptLog:
    """Writes one coordinator's file.

    Args:
        folder: of all of them; made when missing.
        before: what the checkpoint says of the files before.
        fence: of this coordinator, which names its file.
        secret: of the life that its first entries belong to.

    Raises:
        CampaignError: the file cannot be made.
    """

    def __init__(self, folder: Path, before: Sequence[Part], fence: int, secret: bytes) -> None:
        self._before = [(name, num_bytes) for name, num_bytes in before]
        self._name = f"{fence:06}.log"
        path = folder / self._name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # It holds the campaign's secret: nobody else on this machine may read it.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            self._file = PatientFile(path, "the log that is kept")
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise CampaignError(f"{path} cannot be written ({error.strerror}); free space or mend it.") from error
        self.begin_life(secret)

    @property
    def parts(self) -> list[Part]:
        """What counts as of now."""
        return [*self._before, (self._name, self._file.num_bytes)]

    def begin_life(self, secret: bytes) -> None:
        """What comes now is under another secret."""
        self._append("life", secret)

    def keeping(self, fetch: Fetch) -> Fetch:
        """The same, with each payload written down."""

        def fetch_and_keep(name: str, num_bytes: int) -> memoryview:
            try:
                payload = fetch(name, num_bytes)
            except PayloadLost:
                self._append("lost", name)
                raise
            self._append("payload", name, payload)
            return payload

        return fetch_and_keep

    def note(self, entry: LogEntry) -> None:
        """An entry was applied."""
        self._append("entry", entry.position, entry.kind, entry.header, entry.payload)

    def sync(self) -> None:
        """Make all of it durable.

        Raises:
            OSError: it is not.
        """
        self._file.sync()

    def close(self) -> None:
        """End writing."""
        self._file.close()

    def _append(self, *record: Any) -> None:
        self._file.append(msgpack.packb(record))


def read_kept_log(folder: Path, parts: Sequence[Part]) -> Iterator[list[Any]]:
    """The records of a kept log, in order.

    Raises:
        CampaignError: it is not all there.
    """
    for name, num_bytes in parts:
        path = folder / name
        unpacker = msgpack.Unpacker(raw=False, max_buffer_size=2**32 - 1)
        try:
            with path.open("rb") as file:
                while num_bytes:
                    if not (block := file.read(min(_BLOCK, num_bytes))):
                        raise CampaignError(f"{path} has {num_bytes} bytes less than its checkpoint says.")
                    num_bytes -= len(block)
                    unpacker.feed(block)
                    yield from unpacker
        except OSError as error:
            raise CampaignError(f"{path} cannot be read ({error.strerror}); the log was kept there.") from error
        except (ValueError, msgpack.UnpackException) as error:
            raise CampaignError(f"{path} is damaged ({error}).") from None
