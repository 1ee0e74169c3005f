"""The spend journal: what devices have spent on releases, durable before anybody sees the release.

A checkpoint may be older than what was published, and the log behind it may be lost with the broker. Whatever a version
has told of a device stays told, so a campaign that goes on has to know of it: each merge is a line here, beside the
checkpoints, in a segment for each fence. No segment is ever cut: budgets bound them all together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import structlog

from coordinator.storage.checkpoint_files import LocalFiles, RemoteFiles
from fl_core.errors import CampaignError
from fl_core.privacy.spend import Spend

_SEGMENT = re.compile(r"spent-\d+\.jsonl")

log = structlog.get_logger()


class SpendJournal:
    """The journal, read whole and written at its own segment.

    Args:
        files: where the checkpoints are.
        fence: of this coordinator; no other one writes its segment.
    """

    def __init__(self, files: LocalFiles | RemoteFiles, fence: int) -> None:
        self._files = files
        self._name = f"spent-{fence:06}.jsonl"
        self._waiting: list[Spend] = []
        self._torn = False

    def note(self, spends: Iterable[Spend]) -> None:
        """Releases that are to be written before they are shown."""
        self._waiting += spends

    def sync(self) -> None:
        """Make durable what was noted.

        Raises:
            CampaignError: it is not; nothing of it may be shown.
        """
        if not self._waiting:
            return
        lines = "".join(f"{json.dumps(spend.to_map(), separators=(',', ':'))}\n" for spend in self._waiting)
        try:
            # What an earlier try left of a line must not spoil this one.
            self._files.append(self._name, ("\n" * self._torn + lines).encode())
        except Exception as error:  # a file system of somebody else's may raise anything
            self._torn = True
            raise CampaignError(
                f"what devices have spent cannot be written beside the checkpoints ({error}); free space or mend it, "
                "and go on with --resume."
            ) from error
        self._torn = False
        self._waiting.clear()

    def read(self) -> list[Spend]:
        """All that was ever written, by whomever. A line that was not written whole was never shown.

        Raises:
            CampaignError: it cannot be read.
        """
        found = []
        try:
            for name in sorted(filter(_SEGMENT.fullmatch, self._files.names())):
                for number, line in enumerate(self._files.read(name).split(b"\n"), start=1):
                    try:
                        found += [Spend.from_map(json.loads(line))] if line else []
                    except (ValueError, TypeError, AttributeError, RecursionError):  # BadMap is a ValueError
                        log.warning("a line of the spend journal is not whole", segment=name, line=number)
        except OSError as error:
            raise CampaignError(f"the spend journal cannot be read ({error}); restore it from a copy.") from error
        return found
