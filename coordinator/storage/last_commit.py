"""The number of a campaign's commits, in a file beside the run: so many the broker has to know at a resume.

It is written before each commit and not synced, so that it survives a killed program and costs microseconds. After a
power cut of this machine it may be older than the truth: it names the kernel's boot, and one from another boot counts
for nothing. A coordinator that ends in order syncs it, and then it counts for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SIZE = 256
_ANY_BOOT = "any"


class LastCommit:
    """The file of one run.

    Args:
        path: where it is, or will be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._boot = _boot()
        self._handle: int | None = None
        self._last: tuple[str, int] | None = None

    def read(self, incarnation: str) -> int | None:
        """The number of the last commit that was, or may have been, sent in it; None where nobody knows."""
        try:
            told = json.loads(self._path.read_bytes()[:_SIZE])
            known = told["epoch"] == incarnation and told["boot"] in (self._boot, _ANY_BOOT)
            return int(told["commits"]) if known else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note(self, incarnation: str, commits: int) -> None:
        """A commit of this number is about to be sent."""
        self._last = incarnation, commits
        self._write(self._boot)

    def close(self) -> None:
        """No commit comes any more: make the last one durable."""
        if self._last is not None:
            self._write(_ANY_BOOT)
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._handle)
            os.close(self._handle)
            self._handle = None

    def _write(self, boot: str) -> None:
        incarnation, commits = self._last or ("", 0)
        text = json.dumps({"epoch": incarnation, "commits": commits, "boot": boot}).encode().ljust(_SIZE)
        try:
            if self._handle is None:
                self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.pwrite(self._handle, text, 0)
        except OSError:  # nothing is better than what is not true any more
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""  # not Linux: power cuts of this machine cannot be seen, and are taken for none
