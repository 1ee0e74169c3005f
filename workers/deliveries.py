"""Updates that an earlier life of this worker or of its child could not deliver, delivered beside the child's work."""

from __future__ import annotations

from pathlib import Path

import structlog

from fl_core.broker.connection import connect
from fl_core.broker.tasks import TaskBroker
from fl_core.errors import RejectedUpdate, TrainingStopped
from fl_core.wire.messages import holding_name
from workers.identity.signing import seal_of
from workers.kept import Kept
from workers.settings import WorkerSettings
from workers.store.outbox import Outbox

log = structlog.get_logger()


class Deliveries:
    """Of what lies in the outbox (the child delivers its own).

    Args:
        settings: the worker's.
        kept: where it is said what is on its way.
    """

    def __init__(self, settings: WorkerSettings, kept: Kept) -> None:
        self._settings = settings
        self._kept = kept
        self._outbox = Outbox(settings.state_dir)
        self._left_behind: list[Path] = []

    @property
    def is_any_left(self) -> bool:
        """Whether there is one to deliver."""
        return bool(self._left_behind)

    def look(self) -> None:
        """See what lies there. Only while no child lives that has kept some: those are its own."""
        self._left_behind = self._outbox.paths()

    def deliver(self) -> None:
        """Deliver what was seen, with a connection of its own.

        Raises:
            BrokerError: not now.
        """
        with connect(self._settings.broker) as client:
            tasks = TaskBroker(
                client, self._settings.name, self._settings.blobs,
                on_moved=self._kept.note_moved, seal=seal_of(self._settings),
            )  # fmt: skip
            for path, update, payload in self._outbox.read(self._left_behind):
                if update.worker != self._settings.name:
                    log.warning("a kept update is another worker's; left alone", file=str(path), worker=update.worker)
                    continue
                self._kept.holding = holding_name(update.campaign, update.task_id, update.attempt)
                try:
                    wanted = tasks.deliver(update, payload, begun_before=True)
                except TrainingStopped:
                    wanted = False
                    tasks.withdraw(update)
                except RejectedUpdate as error:
                    log.warning("a kept update cannot be delivered", file=str(path), reason=error.detail)
                    continue
                finally:
                    self._kept.holding = ""
                path.unlink(missing_ok=True)
                event = "a kept update was delivered" if wanted else "a kept update was not wanted any more"
                log.info(event, campaign=update.campaign, task=update.task_id, digest=update.payload_digest)
        self._left_behind = []
