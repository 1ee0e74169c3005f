"""The way up: an update that is delivered, now or when the broker is back, and meanwhile kept on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import structlog

from fl_core.broker.patience import device_outage, patiently
from fl_core.broker.tasks import TaskBroker
from fl_core.errors import BrokerError, TrainingStopped
from fl_core.wire.messages import ModelUpdate
from workers.store.outbox import Outbox

log = structlog.get_logger()


class Delivering:
    """Sends one update after the other.

    Args:
        broker: this process's.
        state_dir: the worker's.
        on_late: called when an update has to wait for the broker.
    """

    def __init__(self, broker: TaskBroker, state_dir: Path, on_late: Callable[[], None]) -> None:
        self._broker = broker
        self._state_dir = state_dir
        self._on_late = on_late
        self._outbox = Outbox(state_dir)
        self._sending: tuple[ModelUpdate, bytes | memoryview] | None = None
        self._kept: Path | None = None

    def deliver(self, update: ModelUpdate, payload: bytes | memoryview) -> bool:
        """Send an update, however long the broker is away; False where its campaign has ended meanwhile.

        Raises:
            TrainingStopped: nobody waits for it any more.
        """
        self._sending = update, payload
        try:
            try:
                wanted = self._broker.deliver(update, payload)
            except BrokerError as error:
                self._on_late()
                self.keep()
                kept = "memory" if self._kept is None else str(self._kept)
                log.warning("the broker is away; the update waits", reason=str(error), kept=kept)
                wanted = patiently(lambda: self._broker.deliver(update, payload), begin=device_outage)
                log.info("the update was delivered late", wanted=wanted)
        except TrainingStopped:
            with contextlib.suppress(BrokerError):
                self._broker.withdraw(update)
            self._forget()
            raise
        finally:
            self._sending = None
        self._forget()
        return wanted

    def keep(self) -> None:
        """Keep on disk what is being sent: this process may end before it has arrived."""
        if self._sending is None or self._kept is not None:
            return
        try:
            self._kept = self._outbox.put(*self._sending)
        except OSError as error:
            log.error("the update cannot be kept on disk", state_dir=str(self._state_dir), reason=str(error))

    def _forget(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.unlink(missing_ok=True)
