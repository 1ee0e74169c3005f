"""Processes that train simulated devices' tasks one by one, several at a time, to the same bits as in one process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import torch

from coordinator.simulation.devices import SimulatedDevice
from fl_core.errors import CampaignError
from fl_core.training.method import Outcome
from fl_core.training.one_task import Device, DeviceModel, train_task
from fl_core.training.pace import SpeedProfile
from fl_core.vectors import Parameters
from fl_core.wire.messages import TrainTask

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class _Inherited:
    """What the processes have from the one that made them, rather than through a pipe."""

    model: DeviceModel
    devices: Sequence[SimulatedDevice]


_inherited: _Inherited | None = None


class Pool:
    """Some processes with the campaign's model and all of its devices.

    Args:
        model: the campaign's, as devices build it.
        devices: all of them.
        size: how many processes.
    """

    def __init__(self, model: DeviceModel, devices: Sequence[SimulatedDevice], size: int) -> None:
        global _inherited  # a forked process finds it there
        _inherited = _Inherited(model, devices)
        self._processes = ProcessPoolExecutor(size, mp_context=multiprocessing.get_context("fork"), initializer=_begin)

    def begin(
        self, task: TrainTask, base: Parameters, version: int, index: int, speed: SpeedProfile
    ) -> Future[Outcome]:
        """Let a task be trained.

        Args:
            index: which of the devices has it; it remembers nothing but its speed.
        """
        return self._processes.submit(_train, task, base, version, index, speed)

    def close(self) -> None:
        """End the processes; what they still train is dropped."""
        self._processes.shutdown(cancel_futures=True)


def trained(begun: Future[Outcome]) -> Outcome:
    """What came of it; what training raised is raised.

    Raises:
        CampaignError: a process was ended.
    """
    try:
        return begun.result()
    except BrokenProcessPool:
        raise CampaignError(
            "a process that trains was ended, perhaps for want of memory; simulate again with fewer of them."
        ) from None


def _begin() -> None:
    torch.set_num_threads(1)


def _train(task: TrainTask, base: Parameters, version: int, index: int, speed: SpeedProfile) -> Outcome:
    assert _inherited is not None  # the pool has set it
    simulated = _inherited.devices[index]
    device = Device(name=simulated.name, dataset=simulated.load(), device=CPU, speed=speed)
    return train_task(task, _inherited.model, base, version, device)
