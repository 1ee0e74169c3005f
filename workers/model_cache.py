"""The model of the campaign at hand, built once, and the last version's parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgpack
import numpy as np
import structlog
import torch

from fl_core.aggregation.blocks import add_scaled
from fl_core.broker import blobs
from fl_core.broker.tasks import Head
from fl_core.buffers import BufferRole, LocalTensors
from fl_core.codecs import ErrorFeedback, down_codec
from fl_core.codecs.model_payload import decode_update, decode_version, write_state
from fl_core.errors import InvariantError, LayoutError, RejectedUpdate
from fl_core.layout import Layout
from fl_core.messages import TrainTask
from fl_core.models.build import build_model
from fl_core.spec import TrainingSection, parse_section
from fl_core.training.method import Method, build_method
from fl_core.vectors import FloatArray, Parameters

log = structlog.get_logger()


class CachedModel:
    """A model with its layout, and the newest version that was fetched for it.

    Attributes:
        digest: of ``base``; empty before the first fetch.
        local: what the model holds beside the layout, which is put back before each task.
        training, settings, method: how this campaign trains: the task's words, and what was made of them.
        feedback: what lossy updates of this campaign have left out so far, by part of the model.
        spare: memory of the last update, for the next one; new memory of this size would be page-faulted and zeroed.
    """

    def __init__(self, module: torch.nn.Module, layout: Layout, settings: TrainingSection, method: Method) -> None:
        self.module = module
        self.layout = layout
        self.local = LocalTensors(module, {spec.name for spec in layout.tensors})
        self.training: dict[str, Any] = {}
        self.settings = settings
        self.method = method
        self.feedback: defaultdict[int, ErrorFeedback] = defaultdict(ErrorFeedback)
        self.digest = ""
        self.base: Parameters | None = None
        self.spare: FloatArray | None = None
        self._fetched: memoryview | None = None

    def give_up_base(self) -> memoryview | None:
        """The memory that the version at hand was fetched into, to be overwritten by the next one.

        Until then there is no version.
        """
        self.base, self.digest = None, ""
        return self._fetched

    def patch(self, head: Head, payloads: Sequence[memoryview]) -> bool:
        """Make the version at hand the newest one; False where that does not come to its digest, and none is left.

        Args:
            head: the newest version, with its patches.
            payloads: the patches' bytes.
        """
        memory = self.give_up_base()
        if memory is None:
            return False
        values = np.frombuffer(memory, np.float32)
        try:
            for patch, payload in zip(head.patches, payloads, strict=True):
                change, state = decode_update(down_codec(patch.codec), self.layout, payload, self.layout.num_parameters)
                add_scaled(values[self.layout.trainable], change, 1.0)
                if state is not None:
                    write_state(self.layout, state, values)
        except (RejectedUpdate, InvariantError) as error:
            log.warning("a patch does not fit; fetching the version", version=head.version, reason=str(error))
            return False
        if blobs.digest(memory) != head.digest:
            log.warning("the patches do not lead to the version; fetching it", version=head.version)
            return False
        self.keep(head, memory)
        return True

    @property
    def can_be_patched(self) -> bool:
        """Whether the version at hand lies in memory of this process's own."""
        return self._fetched is not None

    def keep(self, head: Head, payload: bytes | memoryview) -> None:
        """Remember a version as it arrived: what was decoded is the base that a delta is taken against.

        Raises:
            LayoutError: its size is not the model's.
        """
        try:
            values = decode_version(down_codec(head.codec), self.layout, payload)
        except RejectedUpdate as error:
            raise LayoutError(
                f"version {head.version} does not fit the model built here, of {self.layout.num_elements} elements "
                f"({error.detail}); install the campaign's model code."
            ) from error
        self._fetched = payload if isinstance(payload, memoryview) and not payload.readonly else None
        self.base = Parameters(values)
        self.digest = head.digest


class ModelCache:
    """The models of the last few campaigns: a device that serves two in turn builds each once.

    Args:
        device: where models live.
        max_models: how many are kept.
    """

    def __init__(self, device: torch.device, max_models: int = 2) -> None:
        self._device = device
        self._max_models = max_models
        self._models: dict[tuple[Any, ...], CachedModel] = {}

    def find(self, task: TrainTask) -> CachedModel | None:
        """The task's model if it was built before: nothing is built or imported for a task that is not claimed yet."""
        return self._models.get(_key(task))

    def get(self, task: TrainTask) -> CachedModel:
        """The task's model, built if need be.

        Raises:
            LayoutError: what is built here is not the model that the coordinator has.
            SpecError: the factory is not installed or not allowed, or refuses its arguments; so with the training
                method.
        """
        key = _key(task)
        model = self._models.get(key)
        if model is None:
            module = build_model(task.model_factory, dict(task.model_args), seed=0)
            layout = Layout.of(module, cast(Mapping[str, BufferRole], task.model_buffers))
            layout.verify_digest(task.layout_digest)
            model = CachedModel(module.to(self._device), layout, *_method(task))
            model.training = dict(task.training)
        elif dict(task.training) != model.training:
            # Its own words for each task: one forged order must not change how later ones are trained.
            model.settings, model.method = _method(task)
            model.training = dict(task.training)
        self._models.pop(key, None)
        self._models[key] = model  # the most recently used is last
        while len(self._models) > self._max_models:
            del self._models[next(iter(self._models))]
        return model


def _method(task: TrainTask) -> tuple[TrainingSection, Method]:
    settings = parse_section(TrainingSection, dict(task.training), "the task's training settings")
    return settings, build_method(settings)


def _key(task: TrainTask) -> tuple[Any, ...]:
    return (task.campaign, task.model_factory, msgpack.packb(task.model_args), task.layout_digest)
