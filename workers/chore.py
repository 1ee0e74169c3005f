"""Something that a thread does over and over, and that must not end the thread when it fails."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from fl_core.backoff import Backoff
from fl_core.errors import FedtideError

log = structlog.get_logger()

FIRST_PAUSE_SECONDS = 1.0
LAST_PAUSE_SECONDS = 60.0


class Chore:
    """Runs an action; any error is logged, and it is tried again after a pause that doubles.

    Args:
        name: what is done, for the log.
        action: what to call.
        last_pause_seconds: the longest pause.

    Attributes:
        name: as given.
        failing_since: the first failure since it last went well (``time.monotonic``), or None.
        error: the newest failure, in words.
    """

    def __init__(self, name: str, action: Callable[[], object], last_pause_seconds: float = LAST_PAUSE_SECONDS) -> None:
        self.name = name
        self._action = action
        self._pauses = Backoff(FIRST_PAUSE_SECONDS, last_pause_seconds)
        self._next = 0.0
        self.failing_since: float | None = None
        self.error = ""

    def run(self) -> None:
        """Do it, unless it failed a moment ago."""
        now = time.monotonic()
        if now < self._next:
            return
        try:
            self._action()
        except BaseException as error:  # a thread that guards others is ended by nothing
            if self.error != (told := f"{type(error).__name__}: {error}"[:300]):
                log.error(
                    "failed, and will be tried again",
                    what=self.name,
                    error=told,
                    exc_info=not isinstance(error, FedtideError),
                )
            self.error = told
            self.failing_since = self.failing_since or now
            self._next = now + self._pauses.next()
            return
        if self.failing_since is not None:
            log.info("works again", what=self.name, after_seconds=round(now - self.failing_since))
        self.failing_since, self.error, self._next = None, "", 0.0
        self._pauses.reset()
