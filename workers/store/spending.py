"""What this device has given away in updates with local noise: a journal on disk, which is ahead of all that leaves.

A line is on the disk before the update that it stands for exists, so whatever kills this program, no more has left
the device than the journal says. An update that was counted and never delivered stays counted.

One line per update of whatever campaign, in ``spent.jsonl``; a lock on the file keeps workers apart
that share the folder. Those that train on the same data have to share it: what one has given away counts for the
others.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from fl_core.errors import BudgetSpent, SpecError
from fl_core.privacy.accountant import epsilon_of
from fl_core.privacy.budget import Budget
from fl_core.privacy.noise import KEY_BYTES
from fl_core.privacy.terms import Terms
from fl_core.program.extras import need
from fl_core.program.whole_file import sync_folder
from fl_core.wire.messages import TrainTask
from workers.settings import WorkerSettings

_FORMAT = 1


class SpendingJournal:
    """Reads and writes the journal.

    A campaign's budget is the smallest that it has ever asked for: none is raised for a device that has begun to spend.

    Args:
        folder: where it lies.
        limit: what this device's owner allows for all campaigns together; None leaves it to the campaigns.
    """

    def __init__(self, folder: Path, limit: Budget | None = None) -> None:
        self.path = folder / "spent.jsonl"
        self._limit = limit
        self._read_bytes = 0
        self._num_lines = 0
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._updates: defaultdict[str, int] = defaultdict(int)
        self._budgets: dict[str, float] = {}

    def verify(self, campaign: str, terms: Terms | None) -> None:
        """Refuse a task of which nothing could leave this device: before it is trained.

        Args:
            campaign: its id.
            terms: what its order says of privacy; None for nothing.

        Raises:
            BudgetSpent: in one sentence, with what was spent.
            SpecError: the journal cannot be read.
        """
        if terms is None or not terms.is_local:
            if self._limit is not None:
                raise BudgetSpent(
                    f"--max-epsilon {self._limit.epsilon:.4g} lets updates leave this device only with noise that it "
                    f"adds itself, and campaign {campaign} does not ask for that (privacy.mode = 'local')."
                )
            return
        need("privacy.mode = 'local'", "cryptography")
        if self.path.exists():
            with self._opened(fcntl.LOCK_SH) as file:
                self._read(file)
        self._verify(campaign, terms)

    def left(self, campaign: str, terms: Terms | None) -> int:
        """How many more updates the campaign may have of this device; 0 of those without local noise.

        Raises:
            BudgetSpent: none, in one sentence.
            SpecError: the journal cannot be read.
        """
        self.verify(campaign, terms)
        if terms is None or not terms.is_local:
            return 0
        asked = terms.budget.mu_squared
        room = min(asked, self._budgets.get(campaign, asked)) - self._spent[campaign]
        if self._limit is not None:
            room = min(room, self._limit.mu_squared - math.fsum(self._spent.values()))
        return int(room // terms.cost)

    def spend(self, task: TrainTask, terms: Terms) -> bytes:
        """Count one update, durably; returns the 32 bytes from which its noise is made.

        Raises:
            BudgetSpent: in one sentence, with what was spent.
            SpecError: the journal cannot be read or written.
        """
        with self._opened(fcntl.LOCK_EX) as file:
            self._read(file)
            self._verify(task.campaign, terms)
            line = {
                "v": _FORMAT,
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "campaign": task.campaign,
                "task": task.task_id,
                "attempt": task.attempt,
                "noise_multiplier": terms.noise_multiplier,
                "cost": terms.cost,
                "budget": terms.budget.mu_squared,
            }
            self._append(file, json.dumps(line).encode() + b"\n")
        return os.urandom(KEY_BYTES)

    # -- budgets ---------------------------------------------------------------------------------------------------

    def _verify(self, campaign: str, terms: Terms) -> None:
        asked = terms.budget.mu_squared
        budget = Budget(min(asked, self._budgets.get(campaign, asked)), terms.delta)
        spent = self._spent[campaign]
        if not budget.allows(spent, terms.cost):
            raise BudgetSpent(
                f"this device has given campaign {campaign} {self._updates[campaign]} updates with noise, epsilon = "
                f"{epsilon_of(math.sqrt(spent), terms.delta):.4g} at delta = {terms.delta:g}, and one more would pass "
                f"its budget of {budget.epsilon:.4g}."
            )
        total = math.fsum(self._spent.values())
        if self._limit is not None and not self._limit.allows(total, terms.cost):
            raise BudgetSpent(
                f"--max-epsilon {self._limit.epsilon:.4g} is spent: this device has given away epsilon = "
                f"{epsilon_of(math.sqrt(total), self._limit.delta):.4g} at delta = {self._limit.delta:g} in all, and "
                f"an update for campaign {campaign} would pass it."
            )

    # -- the file --------------------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self, lock: int) -> Iterator[BinaryIO]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            with os.fdopen(os.open(self.path, flags, 0o600), "r+b", buffering=0) as file:
                fcntl.flock(file, lock)
                yield file
        except OSError as error:
            raise SpecError(
                f"{self.path} cannot be used ({error.strerror}), and without it nothing may leave this device; name a "
                "--privacy-dir that can be written and locked."
            ) from error

    def _read(self, file: BinaryIO) -> None:
        """Take in what was written since the last time, by whomever."""
        size = os.fstat(file.fileno()).st_size
        if size < self._read_bytes:
            raise SpecError(
                f"{self.path} is shorter than it was, so it does not say any more what was given away; put it back."
            )
        file.seek(self._read_bytes)
        data = file.read(size - self._read_bytes) if size > self._read_bytes else b""
        # A last line without its end was being written when its program died: nothing has left for it.
        for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
            self._take(line)
            self._read_bytes += len(line)

    def _take(self, line: bytes) -> None:
        self._num_lines += 1
        try:
            row: Any = json.loads(line)
            campaign, cost, budget = row["campaign"], row["cost"], row["budget"]
            good = row["v"] == _FORMAT and isinstance(campaign, str)
            good = good and all(isinstance(it, float) and 0 <= it < math.inf for it in (cost, budget))
        except (ValueError, TypeError, KeyError, RecursionError):
            good = False
        if not good:
            self._num_lines -= 1
            raise SpecError(
                f"{self.path} cannot be read in line {self._num_lines + 1}, so it is not known what was given away, "
                "and nothing more may leave this device; put back the file as it was."
            )
        self._spent[campaign] += cost
        self._updates[campaign] += 1
        self._budgets[campaign] = min(budget, self._budgets.get(campaign, budget))

    def _append(self, file: BinaryIO, line: bytes) -> None:
        """Write a line behind what was read, and see it on the disk."""
        new = self._read_bytes == 0
        file.truncate(self._read_bytes)
        try:
            if file.write(line) != len(line):
                raise OSError(28, "the disk is full")
            os.fsync(file.fileno())
        except OSError:
            file.truncate(self._read_bytes)
            raise
        if new:
            for folder in (self.path.parent, self.path.parent.parent):
                sync_folder(folder)
        self._take(line)
        self._read_bytes += len(line)


def journal_of(settings: WorkerSettings) -> SpendingJournal:
    """This worker's journal, with its owner's limit."""
    limit = settings.max_epsilon
    return SpendingJournal(
        settings.privacy_dir or settings.state_dir / "privacy",
        None if limit is None else Budget.of_epsilon(limit, settings.privacy_delta),
    )
