"""Keeps the campaign's lease while the coordinator works, however long a merge or a save takes."""

from __future__ import annotations

import threading

import structlog

from fl_core.broker.lease import Writer
from fl_core.errors import BrokerError

LEASE_SECONDS = 9.0

log = structlog.get_logger()


class LeaseKeeper:
    """Renews the lease three times in its life, from a thread that nothing ends before ``stop`` or the lease's loss.

    Attributes:
        fenced_out: another coordinator has it now; this one must end.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self.fenced_out = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; the lease itself stays until it is released or runs out."""
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / 3):
            try:
                if not self._writer.renew():
                    self.fenced_out = True
                    return
            except BrokerError as error:
                log.debug("the lease cannot be renewed now", reason=str(error))
            except Exception:  # whatever it is, the campaign would be lost with this thread
                log.exception("the lease was not renewed; trying again")
