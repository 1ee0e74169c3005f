"""What this keeper has told masks of, for good: no update goes into two different orders.

If a coordinator could ask for the masks of a sum and then of the same sum with one update in another one's place, the
difference would show two devices' updates. So each update belongs to the first order that names it, and that is on disk
before an answer leaves.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from fl_core.errors import SpecError

FILE = "answered.sqlite"
_PAGE = 500


class Answered:
    """A file with one row for each update.

    Args:
        folder: where it lies; made if missing. It has to survive restarts, and must not be restored from a copy.

    Raises:
        SpecError: it cannot be written, or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        with self._readable():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._rows = sqlite3.connect(self._path, isolation_level=None)
            self._path.chmod(0o600)
            # The default journal, with a sync at each commit: a row that was written survives a power cut.
            self._rows.execute("PRAGMA synchronous = EXTRA")
            self._rows.execute(
                "CREATE TABLE IF NOT EXISTS answered (update_key BLOB PRIMARY KEY, part_of BLOB) WITHOUT ROWID"
            )

    def close(self) -> None:
        """Close the file."""
        self._rows.close()

    def claim(self, updates: Sequence[tuple[str, str, int]], order: bytes) -> bool:
        """Note durably that these updates belong to this order; False, and nothing is noted, where one has another.

        Args:
            updates: campaign, task id and attempt of each.
            order: the order's digest, as bytes.

        Raises:
            SpecError: the file cannot be written: nothing may be answered.
        """
        keys = [_key(*update) for update in updates]
        with self._readable(), self._transaction():
            known: dict[bytes, bytes] = {}
            for start in range(0, len(keys), _PAGE):
                page = keys[start : start + _PAGE]
                marks = ",".join("?" * len(page))
                known |= dict(
                    self._rows.execute(f"SELECT update_key, part_of FROM answered WHERE update_key IN ({marks})", page)
                )
            if any(part_of != order for part_of in known.values()):
                return False
            new = [(key, order) for key in keys if key not in known]
            self._rows.executemany("INSERT INTO answered VALUES (?, ?)", new)
        return True

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._rows.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._rows.execute("ROLLBACK")
            raise
        self._rows.execute("COMMIT")

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise SpecError(
                f"{self._path}, where this keeper notes what it has answered, cannot be used ({error}); it answers "
                "nothing without. Free space, or name another folder with --state-dir."
            ) from None


def _key(campaign: str, task_id: str, attempt: int) -> bytes:
    return hashlib.blake2b(f"{campaign}\0{task_id}\0{attempt}".encode(), digest_size=16).digest()
