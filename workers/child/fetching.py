"""The way down: the newest version, fetched whole or as patches, and what no version carries."""

from __future__ import annotations

import time

import structlog

from fl_core.backoff import Backoff
from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.places import PlaceRefused
from fl_core.broker.claiming import Claim
from fl_core.broker.patience import device_outage, patiently
from fl_core.broker.tasks import TaskBroker
from fl_core.errors import BrokerError, MissingBlob, SpecError
from fl_core.wire.messages import TrainTask
from workers.store.model_cache import CachedModel

# A newer version may be there already; a server that is away is asked less and less often.
FIRST_PAUSE_SECONDS = 0.005
LAST_PAUSE_SECONDS = 2.0

log = structlog.get_logger()


class Fetching:
    """Brings a cached model up to date for a task that was claimed.

    Args:
        broker: this process's.

    Attributes:
        moved_at: when bytes last moved (``time.monotonic``): while they do, nothing is given up.
    """

    def __init__(self, broker: TaskBroker) -> None:
        self._broker = broker
        self.moved_at = 0.0

    def hold_constants(self, task: TrainTask, model: CachedModel) -> int:
        """Fetch what no version carries, if the model that was built here has other values; the bytes fetched.

        Raises:
            SpecError: they lie where this device does not go.
            MissingBlob, BrokerError: they could not be had within the task's time.
        """
        if model.has_constants(task.constants_digest):
            return 0
        give_up, pauses = time.monotonic() + task.timeout_seconds, _pauses()
        while True:
            try:
                payload = self._broker.fetch_constants(task, model.constants_bytes)
            except (MissingBlob, BrokerError) as error:
                self._go_on_after(error, give_up, pauses, task)
                time.sleep(pauses.next())
                continue
            model.take_constants(payload)
            log.info("fetched the campaign's constants, since the model built here has others", bytes=len(payload))
            return len(payload)

    def hold_newest(self, task: TrainTask, model: CachedModel, claim: Claim) -> tuple[Claim, int]:
        """Hold the version that the claim named, or a newer one: the moment at which the base version is decided.

        Returns:
            The claim that named it, and the bytes that were fetched.

        Raises:
            SpecError: it lies where this device does not go.
            MissingBlob, BrokerError: none could be had within the task's time.
        """
        give_up, pauses = time.monotonic() + task.timeout_seconds, _pauses()
        bytes_down = 0
        while True:
            head = claim.head
            if head is None or head.digest == model.digest:
                return claim, bytes_down
            if head.patches and model.can_be_patched:
                num_bytes, arrived = self._patch(task, model, head)
                bytes_down += num_bytes
                if arrived:
                    return claim, bytes_down
            try:
                payload = self._broker.fetch(task, head, model.give_up_base())
            except (MissingBlob, BrokerError) as error:
                # A newer version was published meanwhile; or the server that had this one has forgotten it or is away,
                # and the coordinator publishes it again, perhaps elsewhere. Either way the next claim says where.
                self._go_on_after(error, give_up, pauses, task)
                if pauses.has_grown:
                    log.warning("the newest version cannot be fetched", version=head.version, reason=str(error))
                time.sleep(pauses.next())
                claim = patiently(lambda: self._broker.claim(task, model.digest), begin=device_outage)
                continue
            model.keep(head, payload)
            return claim, bytes_down + len(payload)

    def _go_on_after(self, error: MissingBlob | BrokerError, give_up: float, pauses: Backoff, task: TrainTask) -> None:
        """Raise what another attempt would not change."""
        if time.monotonic() > max(give_up, self.moved_at + task.timeout_seconds):
            raise error
        if isinstance(error, PlaceRefused) and pauses.has_grown:
            raise SpecError(str(error)) from None  # no newer pointer leads elsewhere

    def _patch(self, task: TrainTask, model: CachedModel, head: Head) -> tuple[int, bool]:
        """Reach the newest version by patches: the bytes that were fetched, and whether it was reached."""
        payloads: list[memoryview] = []
        try:
            for payload in self._broker.fetch_patches(task, head):
                payloads.append(payload)  # noqa: PERF402 - those that came count, also where the next one does not
        except (MissingBlob, BrokerError) as error:
            log.debug("a patch cannot be had; fetching the version", version=head.version, reason=str(error))
            return sum(map(len, payloads)), False
        return sum(map(len, payloads)), model.patch(head, payloads)


def _pauses() -> Backoff:
    return Backoff(FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS, 1.5)
