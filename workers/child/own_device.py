"""This device: its data, loaded once, and what a task finds here beside the campaign's model."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable

import numpy as np
import torch

from fl_core.errors import DataError
from fl_core.factory import call, gate
from fl_core.models.build import build_model
from fl_core.training.batches import count_examples
from fl_core.training.device import pick_device
from fl_core.training.method import Outcome
from fl_core.training.one_task import Device, Spend
from fl_core.training.pace import SpeedProfile
from fl_core.vectors import FloatArray, Sends
from fl_core.wire.messages import TrainTask
from workers.identity.signing import authority_of
from workers.settings import WorkerSettings
from workers.store.memory import DeviceMemory
from workers.store.model_cache import CachedModel


class OwnDevice:
    """What lasts from one task to the next, whichever campaign it is of.

    Args:
        settings: the worker's.

    Attributes:
        device: where models are trained.

    Raises:
        DataError: the device's data cannot be loaded.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self.device = pick_device(settings.device)
        self._dataset = call(settings.data, settings.data_args, "data")
        try:
            count_examples(self._dataset)
        except DataError as error:
            raise DataError(f"data = {settings.data!r} with {dict(settings.data_args)!r}: {error}") from None
        self._speed = SpeedProfile()
        self._authority = authority_of(settings)

    def for_task(
        self, task: TrainTask, model: CachedModel, should_stop: Callable[[], bool], spend: Spend | None = None
    ) -> Device:
        """The device as a task of that campaign finds it."""
        settings = self._settings
        return Device(
            name=settings.name,
            dataset=self._dataset,
            device=self.device,
            speed=self._speed,
            memory=DeviceMemory(settings.state_dir, task.campaign),
            feedback=model.feedback,
            own_model=self._own_model if settings.model else None,
            spare=model.spare,
            should_stop=should_stop,
            emulate_example_seconds=settings.emulate_example_seconds,
            spend=spend,
            authority=self._authority,
            alter=self._emulate if settings.emulate_delay_seconds or settings.emulate_attack else None,
        )

    def _own_model(self) -> torch.nn.Module:
        settings = self._settings
        with gate(None):  # its owner's words
            return build_model(settings.model, settings.model_args, zlib.crc32(settings.name.encode()))

    def _emulate(self, values: FloatArray, sends: Sends, base: FloatArray) -> FloatArray:
        """Play a slow device, or a hostile one."""
        time.sleep(self._settings.emulate_delay_seconds)
        if not self._settings.emulate_attack:
            return values
        from workers.child.attacks import corrupt

        return corrupt(values, sends, base, self._settings.emulate_attack)


def reusable(outcome: Outcome, model: CachedModel) -> FloatArray | None:
    """An update's memory, if the next one may lie there. What error feedback has seen, it may hold on to."""
    values = outcome.values
    fits = values.shape == (model.layout.num_parameters,) and values.dtype == np.float32
    return values if fits and values.flags.carray and not model.feedback else None
