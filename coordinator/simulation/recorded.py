"""Arrivals as they were: the updates of a campaign that kept its log come again, in their order and at their times.

Each is trained again, by the same device and from the same base version, so the campaign ends in the same model bit for
bit, as far as the updates decide its course. When scores came, tasks were lost and versions were published is not
played again: rollbacks and plateaus come when the simulation evaluates, and patches (``codec.down = "int8"``) are
others.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from coordinator.campaign.identity import Identity
from coordinator.simulation.device_side import DeviceSide, Taken
from coordinator.simulation.devices import SimulatedDevice
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.kept_log import read_kept_log
from coordinator.storage.run_folder import RunFolder
from fl_core.broker.bulk.versions import read_head
from fl_core.broker.connection import Client
from fl_core.broker.doorbell.message import read_call
from fl_core.broker.keys import CampaignKeys, train_queue
from fl_core.broker.memory.keyspace import Keyspace
from fl_core.errors import CampaignError, RejectedUpdate, SpecError
from fl_core.spec import CampaignSpec
from fl_core.wire.log_entry import order
from fl_core.wire.messages import TaskCall
from fl_core.wire.signed import update_of


@dataclass(frozen=True, slots=True)
class Arrival:
    """One update as it was: when it entered the log (ms of the server's clock), who sent it, and from which version."""

    moment_ms: int
    worker: str
    task_id: str
    attempt: int
    base_version: int


@dataclass(frozen=True, slots=True)
class Recording:
    """What a run's folder tells of a campaign's course.

    Attributes:
        identity: the campaign's, on which task ids and so the devices' seeds hang.
        arrivals: its updates, in the order of its log.
    """

    identity: Identity
    arrivals: list[Arrival]


def read_recording(path: Path) -> Recording:
    """Read the log that a run has kept.

    Raises:
        SpecError: it has kept none.
        CampaignError: not all of it is there.
    """
    folder = RunFolder(path)
    seen = CheckpointStore(str(folder.checkpoint)).peek()
    if seen is None or not seen.get("kept_log"):
        raise SpecError(f"{path} holds no run that has kept its log; run it with checkpoint.keep_log = true.")
    found: dict[tuple[str, int], Arrival] = {}
    for kind, *rest in read_kept_log(folder.kept_log, seen["kept_log"]):
        if kind != "entry" or rest[1] != "u":
            continue
        with contextlib.suppress(RejectedUpdate):  # it was refused then, and is not sent again
            update = update_of(rest[2])
            key, moment = (update.task_id, update.attempt), order(rest[0])[0]
            # One that was delivered twice counted once.
            found.setdefault(key, Arrival(moment, update.worker, *key, update.base_version))
    return Recording(Identity(*seen["identity"]), list(found.values()))


class Recorded:
    """Plays a recording.

    Args:
        client, keyspace: the twin.
        side: what devices do.
        spec: the campaign's.
        devices: by name.
        recording: of the campaign.
    """

    def __init__(
        self,
        client: Client,
        keyspace: Keyspace,
        side: DeviceSide,
        spec: CampaignSpec,
        devices: Mapping[str, SimulatedDevice],
        recording: Recording,
    ) -> None:
        self._client = client
        self._keyspace = keyspace
        self._side = side
        self._queues = spec.dispatch.queues
        self._devices = devices
        self._keys = CampaignKeys(recording.identity.campaign)
        self._left = deque(recording.arrivals)
        self._left_by_worker: defaultdict[str, deque[Arrival]] = defaultdict(deque)
        for each in recording.arrivals:
            self._left_by_worker[each.worker].append(each)
        self._version = -1
        self._wanted = {(each.task_id, each.attempt): each for each in recording.arrivals}
        self._rung: dict[tuple[str, int], TaskCall] = {}
        self._taken: dict[tuple[str, int], Taken] = {}
        # The recording's clock, to the twin's: its first update comes a second after the launch.
        first = recording.arrivals[0].moment_ms if recording.arrivals else 0
        self._shift_ms = keyspace.now_ms + 1000 - first

    def advance(self, until_ms: float) -> None:
        """See ``Arrivals``.

        Raises:
            CampaignError: the campaign does not take the course that was recorded.
        """
        self._train_what_is_due()
        if not self._left:
            self._keyspace.now_ms = until_ms
            return
        arrival = self._left[0]
        moment = arrival.moment_ms + self._shift_ms
        if moment > until_ms:
            self._keyspace.now_ms = until_ms
            return
        taken = self._taken.pop((arrival.task_id, arrival.attempt), None)
        if taken is None:
            raise CampaignError(
                f"the recording has an update of {arrival.worker} to task {arrival.task_id} from version "
                f"{arrival.base_version}, which this campaign has not issued by then; give it the same spec."
            )
        self._left.popleft()
        self._keyspace.now_ms = max(self._keyspace.now_ms, moment)
        self._side.deliver(taken)

    def _train_what_is_due(self) -> None:
        """Whoever has trained from the version that is the newest now, trains: each device in the order of its updates,
        as what it remembers hangs on it."""
        rung = [call for queue in self._queues for call in self._take_doorbells(queue)]
        self._rung |= {(call.task_id, call.attempt): call for call in rung}
        head = read_head(self._client, self._keys)
        version = -1 if head is None else head.version
        if not rung and version == self._version:
            return
        self._version = version
        due = deque(arrival for key in self._rung if (arrival := self._wanted.get(key)) is not None)
        while due:
            arrival = due.popleft()
            mine = self._left_by_worker[arrival.worker]
            while mine and self._train(mine[0]):
                mine.popleft()

    def _take_doorbells(self, queue: str) -> Iterator[TaskCall]:
        while (message := self._client.quick("RPOP", train_queue(queue))) is not None:
            yield read_call(message)

    def _train(self, arrival: Arrival) -> bool:
        """Train what was trained then, if it is its time."""
        key = arrival.task_id, arrival.attempt
        if arrival.base_version != self._version or key not in self._rung:
            return False
        device = self._devices.get(arrival.worker)
        if device is None:
            raise SpecError(f"the recording has updates of {arrival.worker!r}, which is none of the devices.")
        if (taken := self._side.take(device, self._rung.pop(key))) is not None:
            self._taken[key] = taken
        return True
