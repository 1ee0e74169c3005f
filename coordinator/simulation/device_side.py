"""The devices' side of a simulation: a task is claimed, trained and delivered as a worker does it.

Everything goes through the calls that a worker makes (``fl_core/broker/tasks.py``) and the step that it takes
(``fl_core/training/one_task.py``). What is not simulated is the worker's processes, their breakers and their disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from coordinator.simulation.devices import SignsOfLife, SimulatedDevice
from coordinator.simulation.held_versions import HeldVersions
from coordinator.simulation.pool import Pool
from coordinator.simulation.privacy import SimulatedPrivacy
from coordinator.simulation.training import Training, Way, Work
from fl_core.broker.connection import Client
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.tasks import TaskBroker, payload_place
from fl_core.codecs import codec
from fl_core.privacy.terms import Terms
from fl_core.training.one_task import Device, DeviceModel
from fl_core.vectors.layout import Layout
from fl_core.wire.messages import TaskCall, TaskReport, TrainTask, holding_name

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """A task that a device has taken, and not delivered yet.

    Attributes:
        seconds: what it takes the device, in virtual seconds.
        queue_seconds: how long the task waited for it.
        fetch_seconds, train_seconds: parts of ``seconds``.
        bytes_down: what it fetched.
    """

    device: SimulatedDevice
    work: Work
    seconds: float
    queue_seconds: float
    fetch_seconds: float
    train_seconds: float
    bytes_down: int

    @property
    def task(self) -> TrainTask:
        """The task."""
        return self.work.task


class DeviceSide:
    """What all devices of a simulation share, and what each of them remembers once it has had a task.

    Args:
        client: of the twin.
        signs: where it is said what a device has in hand.
        way: how devices' training is computed.
        make_pool: makes the processes that train, from the campaign's model; None for this process alone.
    """

    def __init__(
        self,
        client: Client,
        signs: SignsOfLife,
        way: Way = "one_by_one",
        make_pool: Callable[[DeviceModel], Pool] | None = None,
    ) -> None:
        self._signs = signs
        self._client = client
        self._broker = TaskBroker(client, "")
        self._private: CampaignKeys | None = None
        self._way: Way = way
        self._remembered: dict[str, Device] = {}
        self._privacy = SimulatedPrivacy()
        self._model: DeviceModel | None = None
        self._versions: HeldVersions | None = None
        self._training: Training | None = None
        self._make_pool = make_pool
        self._pool: Pool | None = None

    @property
    def training(self) -> Training | None:
        """How devices train; None before the first task."""
        return self._training

    def close(self) -> None:
        """End the processes that train."""
        if self._pool is not None:
            self._pool.close()

    def take(self, device: SimulatedDevice, call: TaskCall, index: int = -1) -> Taken | None:
        """Claim a task now, to be trained from the newest version; None where nobody waits for it any more.

        So for a device that may give no more away, which says so.

        Args:
            index: which of all devices that is; only processes that train ask.

        Raises:
            FedtideError: what a worker would report as a failed task; so with whatever user code raises.
        """
        self._broker.become(device.name)
        held = "" if self._versions is None else self._versions.digest_of(device.name)
        claim = self._broker.claim(call, held)
        if claim.head is None or claim.task is None:
            return None
        task = claim.task
        if (terms := Terms.read(task.privacy)) is not None and not terms.is_local:
            self._private = CampaignKeys(task.campaign)
        if not self._privacy.verify(device.name, task):
            self._report(device.name, task, "budget_spent", self._privacy.sentence(device.name))
            return None
        training, versions, _ = self._built(task)
        base, bytes_down = versions.hold(device.name, task, claim.head)
        work = Work(task, base, claim.head.version, self._remember(device), index)
        work_seconds = device.seconds_of(training.begin(work))
        holding = holding_name(task.campaign, task.task_id, task.attempt)
        self._signs.say(device.name, holding)
        beside = device.seconds_beside(bytes_down, self._bytes_up(work))
        fetch = bytes_down / device.down_bytes_per_second
        return Taken(device, work, beside + work_seconds, claim.queue_seconds, fetch, work_seconds, bytes_down)

    def ends_at(self, taken: Taken, moment_ms: float) -> None:
        """It is known when a task's time has passed."""
        if self._training is not None:
            self._training.arrives_at(taken.work, moment_ms)

    def deliver(self, taken: Taken) -> None:
        """Its time has passed: the update enters the log."""
        assert self._training is not None  # it was taken
        name, done = taken.device.name, self._training.result(taken.work)
        blob, num_chunks = payload_place(taken.task, name, done.num_bytes)
        beside = taken.seconds - taken.fetch_seconds - taken.train_seconds
        update = done.update(
            blob=blob,
            num_chunks=num_chunks,
            bytes_down=taken.bytes_down,
            seconds={
                "queue": taken.queue_seconds, "fetch": taken.fetch_seconds, "train": taken.train_seconds + beside,
                "encode": 0.0,
            },
        )  # fmt: skip
        self._broker.become(name)
        self._broker.deliver(update, done.payload)
        self._put_down(taken)

    def fail(self, taken: Taken, why: str) -> None:
        """The device gives the task up."""
        self._broker.become(taken.device.name)
        self._report(taken.device.name, taken.task, "failed", why)
        self.vanish(taken)

    def is_done(self, device: SimulatedDevice) -> bool:
        """Whether it takes no task any more, because it may give no more away."""
        return self._privacy.is_spent(device.name) or self._rest(device) == b"spent"

    def rests(self, device: SimulatedDevice) -> bool:
        """Whether it has to wait for a newer version, as a claim would say."""
        row = self._rest(device)
        return row.isdigit() and self.newest() < int(row)

    def newest(self) -> int:
        """The newest version of a private campaign; 0 of any other."""
        if self._private is None:
            return 0
        return int(self._client.quick("HGET", self._private.head, "version") or 0)

    def _rest(self, device: SimulatedDevice) -> bytes:
        found = None if self._private is None else self._client.quick("HGET", self._private.rests, device.name)
        return bytes(found or b"")

    def _report(self, name: str, task: TrainTask, outcome: str, why: str) -> None:
        self._broker.report(
            TaskReport(
                campaign=task.campaign, task_id=task.task_id, attempt=task.attempt, worker=name, outcome=outcome,
                detail=why,
            )
        )  # fmt: skip

    def vanish(self, taken: Taken) -> None:
        """The device is gone, with its task; nobody is told."""
        if self._training is not None:
            self._training.drop(taken.work)
        self._put_down(taken)

    def _put_down(self, taken: Taken) -> None:
        device = taken.work.device
        self._signs.say(device.name)
        # A device that remembers nothing is made anew when it has another task: a large fleet costs what it remembers.
        if not device.memory and not device.feedback and not self._is_paced and device.name in self._remembered:
            del self._remembered[device.name]

    @property
    def _is_paced(self) -> bool:
        return self._model is not None and self._model.settings.pace_seconds is not None

    def _bytes_up(self, work: Work) -> int:
        if work.done is not None:
            return work.done.num_bytes
        return codec(work.task.codec, work.task.codec_args).max_payload_bytes(self._built(work.task)[2])

    def _built(self, task: TrainTask) -> tuple[Training, HeldVersions, int]:
        """How devices train, the versions that they hold, and how large the model is that they build: once for all, as
        one follows the other on it."""
        if self._model is None or self._versions is None or self._training is None:
            self._model = model = DeviceModel.build(task, CPU)
            layout: Layout = model.layout
            constants = layout.flatten(model.module).values[layout.constants].copy()
            self._versions = HeldVersions(self._broker, layout, constants)
            if self._make_pool is not None:
                self._pool = self._make_pool(model)
            self._training = Training(model, task, self._way, self._pool)
        return self._training, self._versions, self._model.layout.num_parameters

    def _remember(self, device: SimulatedDevice) -> Device:
        known = self._remembered.get(device.name)
        if known is None:
            known = self._remembered[device.name] = Device(
                name=device.name, dataset=device.load(), device=CPU, own_model=device.own_model,
                seconds_of=device.seconds_of, alter=device.alter,
                spend=partial(self._privacy.spend, device.name),
            )  # fmt: skip
        return known
