"""Payloads of updates that no checkpoint covers yet, as files beside the run.

A server that forgets may lose a payload which was merged already. Its bytes are written here before the merge is shown
to anybody, so that a coordinator that dies together with that server still replays its log to the same bits. Files are
written without a sync: they survive a killed program, not a power cut.

Files are used again and again, so that writing is a copy into pages that the kernel has at hand. Each holds one
payload and then the hash of its name, which is written last.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from fl_core.errors import CampaignError

_TAIL_BYTES = 32


class Spool:
    """One file per payload. One thread puts and gets; another may drop.

    Args:
        folder: made when the first payload comes; what an earlier coordinator left there is taken over.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._used: dict[bytes, int] = {}
        self._free: list[int] = []
        self._count = 0
        if folder.is_dir():
            for path in folder.iterdir():
                self._take_over(path)

    def put(self, name: str, payload: memoryview | bytes) -> None:
        """Keep a payload.

        Raises:
            CampaignError: it cannot be written.
        """
        tail = _tail(name)
        self.drop([name])
        slot = self._free.pop() if self._free else self._count
        view = memoryview(payload).cast("B")
        try:
            if not self._count:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._path(slot), os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                if os.fstat(handle).st_size != len(view) + _TAIL_BYTES:
                    os.ftruncate(handle, len(view) + _TAIL_BYTES)
                for part in (view, memoryview(tail)):
                    while part:
                        part = part[os.write(handle, part) :]
            finally:
                os.close(handle)
        except OSError as error:
            raise CampaignError(
                f"an update cannot be kept in {self._folder} ({error}); free space or mend it."
            ) from error
        self._count = max(self._count, slot + 1)
        self._used[tail] = slot

    def get(self, name: str, into: memoryview) -> bool:
        """Read a payload of known size; False when it is not here. Half of one has another digest than its header."""
        slot = self._used.get(_tail(name))
        if slot is None:
            return False
        try:
            with Path(self._path(slot)).open("rb", buffering=0) as file:
                while into and (count := file.readinto(into)):
                    into = into[count:]
        except OSError:
            return False
        return not into

    def drop(self, names: Iterable[str]) -> None:
        """Forget payloads; their files are used for others."""
        for name in names:
            if (slot := self._used.pop(_tail(name), None)) is not None:
                self._free.append(slot)

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget all others."""
        kept = {_tail(name) for name in names}
        for tail in set(self._used) - kept:
            self._free.append(self._used.pop(tail))

    def remove(self) -> None:
        """Forget all, and give the disk back."""
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                path.unlink(missing_ok=True)
            self._folder.rmdir()
        self._used, self._free, self._count = {}, [], 0

    def _take_over(self, path: Path) -> None:
        try:
            slot, size = int(path.name), path.stat().st_size
            with path.open("rb") as file:
                file.seek(max(0, size - _TAIL_BYTES))
                tail = file.read()
        except (OSError, ValueError):
            return
        self._used[tail] = slot
        self._count = max(self._count, slot + 1)

    def _path(self, slot: int) -> str:
        return f"{self._folder}/{slot}"


def _tail(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=_TAIL_BYTES).digest()
