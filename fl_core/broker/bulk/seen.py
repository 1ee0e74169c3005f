"""How far campaigns were when this device looked last: an old pointer that somebody shows again is known by it.

A coordinator's fence rises with each holder of the lease, over all lives of a campaign, and versions rise while one
coordinator leads. So what is behind was seen before. Kept on disk, a restart forgets nothing.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import msgpack

from fl_core.errors import UntrustedError
from fl_core.program.whole_file import whole_file

MAX_CAMPAIGNS = 256
# Written at most so often: a worker that is killed forgets the versions of the last second.
WRITE_SECONDS = 1.0
_MAX_BYTES = 256 * 1024


class Seen:
    """The newest pointer of each campaign.

    Args:
        path: where it is kept; None for nowhere.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._newest: dict[str, tuple[str, int, int]] = {}
        self._written_at = float("-inf")
        if path is not None:
            self._newest = _read(path)

    def advance(self, campaign: str, incarnation: str, fence: int, version: int) -> None:
        """A pointer was looked at.

        Raises:
            UntrustedError: a newer one was seen before.
        """
        before = self._newest.get(campaign)
        now = (incarnation, fence, version)
        if before == now:
            return
        if before is not None:
            # Another life begins under a higher fence. Where its broker had lost the fence it may be as high.
            is_old = fence < before[1] if incarnation != before[0] else (fence, version) < before[1:]
            if is_old:
                raise UntrustedError(self._said(campaign, before, now))
        self._newest.pop(campaign, None)
        self._newest[campaign] = now
        while len(self._newest) > MAX_CAMPAIGNS:
            del self._newest[next(iter(self._newest))]
        if time.monotonic() - self._written_at >= WRITE_SECONDS or before is None or fence != before[1]:
            self.save()

    def _said(self, campaign: str, before: tuple[str, int, int], now: tuple[str, int, int]) -> str:
        more = f"; if the campaign itself was restored from an old copy, remove {self._path}" if self._path else ""
        return (
            f"the pointer of campaign {campaign} names version {now[2]} of coordinator {now[1]}, and this device has "
            f"seen version {before[2]} of coordinator {before[1]}: a server was restored, or somebody shows an old one "
            f"again{more}."
        )

    def save(self) -> None:
        """Keep it now."""
        if self._path is None:
            return
        self._written_at = time.monotonic()
        with contextlib.suppress(OSError), whole_file(self._path) as file:  # a full disk costs this, and no task
            file.write(msgpack.packb(self._newest))


def _read(path: Path) -> dict[str, tuple[str, int, int]]:
    """What was kept; what is damaged or was never written is empty."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        found = msgpack.unpackb(path.read_bytes())
        return {str(name): (str(row[0]), int(row[1]), int(row[2])) for name, row in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, IndexError, msgpack.UnpackException):
        return {}
