"""Looks after an embedded server: nobody else can start it again."""

from __future__ import annotations

import time

import structlog

from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.errors import BrokerError, CampaignError, SpecError
from fl_core.program.process import how_it_ended
from fl_core.program.restarts import Restarts

MAX_DEATHS = 8
LOAD_SECONDS = 120.0
"""For a server to load what it wrote."""

log = structlog.get_logger()


class EmbeddedWatch:
    """Starts a server that ended by itself again: on the same port and socket, with the data that it wrote.

    Args:
        server: running.
        name: what it is, for people: ``"the embedded broker"``.
    """

    def __init__(self, server: EmbeddedServer, name: str) -> None:
        self._server = server
        self._name = name
        self._restarts = Restarts(MAX_DEATHS)
        self._how = ""
        self._again_at: float | None = None

    def look(self) -> None:
        """See whether it lives, and start it again when that is due. Call it now and then from the main thread, whose
        child it is; it returns when the server has loaded what it wrote.

        Raises:
            CampaignError: it dies again and again, or cannot be started.
        """
        if self._server.running:
            return
        if self._again_at is None:
            self._note_death(how_it_ended(self._server.exit_code))
        elif time.monotonic() >= self._again_at:
            self._again_at = None
            self._start()

    def _note_death(self, how: str) -> None:
        self._how = how
        pause = self._restarts.pause_after_death()
        if pause is None:
            self._give_up(f"died {self._restarts.in_a_row} times in a row; at last it {how}")
        log.warning(f"{self._name} has ended; starting it again", it=how, seconds=pause)
        self._again_at = time.monotonic() + (pause or 0.0)

    def _start(self) -> None:
        try:
            self._server.restart(LOAD_SECONDS)
        except (SpecError, BrokerError) as error:
            pause = self._restarts.pause_after_death()
            if pause is None:
                self._give_up(f"{self._how}, and cannot be started again: {error}")
            log.warning(f"{self._name} cannot be started now", reason=str(error), seconds=pause)
            self._again_at = time.monotonic() + (pause or 0.0)
            return
        self._restarts.note_start()
        log.info(f"{self._name} runs again", pid=self._server.pid)

    def _give_up(self, why: str) -> None:
        raise CampaignError(
            f"{self._name} {why.rstrip('.')}; mend the cause (see {self._server.log_path}) and go on with --resume."
        )
