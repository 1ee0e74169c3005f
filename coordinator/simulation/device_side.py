"""The devices' side of a simulation: a task is claimed, trained and delivered as a worker does it.

Everything goes through the calls that a worker makes (``fl_core/broker/tasks.py``) and the step that it takes
(``fl_core/training/one_task.py``). What is not simulated is the worker's processes, their breakers and their disk.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from coordinator.simulation.devices import SimulatedDevice
from coordinator.simulation.held_versions import HeldVersions
from fl_core.broker import keys
from fl_core.broker.connection import Client
from fl_core.broker.tasks import TaskBroker, payload_place
from fl_core.training.one_task import Device, DeviceModel, Done, do_task
from fl_core.vectors.layout import Layout
from fl_core.wire.messages import TaskCall, TaskReport, TrainTask, holding_name

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Trained:
    """A task that a device has trained, and not delivered yet.

    Attributes:
        seconds: what it takes the device, in virtual seconds.
        queue_seconds: how long the task waited for it.
        bytes_down: what it fetched.
    """

    device: SimulatedDevice
    task: TrainTask
    done: Done
    seconds: float
    queue_seconds: float
    bytes_down: int


class DeviceSide:
    """What all devices of a simulation share, and what each of them remembers once it has had a task.

    Args:
        client: of the twin.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._broker = TaskBroker(client, "")
        self._remembered: dict[str, Device] = {}
        self._model: DeviceModel | None = None
        self._versions: HeldVersions | None = None

    def train(self, device: SimulatedDevice, call: TaskCall) -> Trained | None:
        """Claim a task now and train it from the newest version; None where nobody waits for it any more.

        Raises:
            FedtideError: what a worker would report as a failed task; so with whatever user code raises.
        """
        self._broker.become(device.name)
        held = "" if self._versions is None else self._versions.digest_of(device.name)
        claim = self._broker.claim(call, held)
        if claim.head is None or claim.task is None:
            return None
        task = claim.task
        model, versions = self._built(task)
        base, bytes_down = versions.hold(device.name, task, claim.head)
        done = do_task(task, model, base, claim.head.version, self._remember(device))
        holding = holding_name(task.campaign, task.task_id, task.attempt)
        self._client.quick("HSET", keys.HOLDING, device.name, holding)
        seconds = device.overhead_seconds + done.outcome.training.seconds
        return Trained(device, task, done, seconds, claim.queue_seconds, bytes_down)

    def deliver(self, trained: Trained) -> None:
        """Its time has passed: the update enters the log."""
        name, done = trained.device.name, trained.done
        blob, num_chunks = payload_place(trained.task, name, done.num_bytes)
        update = done.update(
            blob=blob,
            num_chunks=num_chunks,
            bytes_down=trained.bytes_down,
            seconds={"queue": trained.queue_seconds, "fetch": 0.0, "train": trained.seconds, "encode": 0.0},
        )
        self._broker.become(name)
        self._broker.deliver(update, done.payload)
        self._client.quick("HDEL", keys.HOLDING, name)

    def fail(self, trained: Trained, why: str) -> None:
        """The device gives the task up."""
        name, task = trained.device.name, trained.task
        self._broker.become(name)
        self._broker.report(
            TaskReport(
                campaign=task.campaign, task_id=task.task_id, attempt=task.attempt, worker=name, outcome="failed",
                detail=why,
            )
        )  # fmt: skip
        self._client.quick("HDEL", keys.HOLDING, name)

    def _built(self, task: TrainTask) -> tuple[DeviceModel, HeldVersions]:
        """The campaign's model as devices build it: once for all, as one follows the other on it."""
        if self._model is None or self._versions is None:
            self._model = model = DeviceModel.build(task, CPU)
            layout: Layout = model.layout
            constants = layout.flatten(model.module).values[layout.constants].copy()
            self._versions = HeldVersions(self._broker, layout, constants)
        return self._model, self._versions

    def _remember(self, device: SimulatedDevice) -> Device:
        known = self._remembered.get(device.name)
        if known is None:
            known = self._remembered[device.name] = Device(
                name=device.name, dataset=device.load(), device=CPU, own_model=device.own_model,
                seconds_of=device.seconds_of, alter=device.alter,
            )  # fmt: skip
        return known
