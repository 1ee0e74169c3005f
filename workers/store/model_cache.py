"""The models of the campaigns that this device serves, built once each, and the last version's parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import structlog
import torch

from fl_core.broker.bulk.head import Head
from fl_core.codecs import ErrorFeedback, down_codec
from fl_core.codecs.model_payload import decode_update, decode_version, write_state
from fl_core.errors import InvariantError, LayoutError, RejectedUpdate
from fl_core.spec import TrainingSection
from fl_core.training.method import Method
from fl_core.training.one_task import DeviceModel, training_of
from fl_core.vectors import FloatArray, Parameters
from fl_core.vectors.agreement import constants_digest
from fl_core.vectors.arithmetic import add_scaled
from fl_core.vectors.layout import Layout
from fl_core.wire.digest import Namer, has_digest, namer_of
from fl_core.wire.messages import TrainTask
from workers.store.residuals import ResidualStore

log = structlog.get_logger()

# What a model takes beside its tensors' values: modules, layout, settings. Models of 2 to 100 tensors took 3.3 to 5 kB.
_OBJECTS_BYTES_PER_TENSOR = 5000


class CachedModel(DeviceModel):
    """A model with its layout, and the newest version that was fetched for it.

    Attributes:
        digest: of ``base``; empty before the first fetch.
        training: the words of which ``settings`` and ``method`` were made.
        feedback: what lossy updates of this campaign have left out so far, by part of the model.
        spare: memory of the last update, for the next one; new memory of this size would be page-faulted and zeroed.
        key: what it was built from.
        counted: ``num_bytes`` when the cache last asked for it.
    """

    def __init__(self, module: torch.nn.Module, layout: Layout, settings: TrainingSection, method: Method) -> None:
        super().__init__(module, layout, settings, method)
        self.training: dict[str, Any] = {}
        self.feedback: defaultdict[int, ErrorFeedback] = defaultdict(ErrorFeedback)
        self.digest = ""
        self.base: Parameters | None = None
        self.spare: FloatArray | None = None
        self.key: tuple[Any, ...] = ()
        self.counted = 0
        # A version is fetched into the front of this memory, behind which the constants stay.
        self._whole = layout.flatten(module).values if layout.num_moving < layout.num_elements else None
        self._named: dict[Namer, str] = {}
        self._fetched: memoryview | None = None
        self._version_bytes = 0
        if self._whole is not None:
            self._fetched, self._version_bytes = self._whole[layout.moving].data.cast("B"), self._whole.nbytes
        tensors = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}.values()
        self._module_bytes = self.local.num_bytes + sum(tensor.nbytes for tensor in tensors)
        self._module_bytes += _OBJECTS_BYTES_PER_TENSOR * len(tensors)

    @property
    def num_bytes(self) -> int:
        """The memory that the model holds between two tasks, on whatever device: a sum of few numbers."""
        total = self._module_bytes + self._version_bytes + (0 if self.spare is None else self.spare.nbytes)
        return total + sum(each.residual.nbytes for each in self.feedback.values() if each.residual is not None)

    @property
    def constants_bytes(self) -> int:
        """The size of what no version carries."""
        return 4 * (self.layout.num_elements - self.layout.num_moving)

    def has_constants(self, wanted: str) -> bool:
        """Whether what no version carries is what a digest names; empty names that of a model without."""
        if self._whole is None or not wanted:
            return self._whole is None and not wanted
        name = namer_of(wanted)
        if name not in self._named:
            self._named[name] = constants_digest(self._whole[self.layout.constants], name)
        return self._named[name] == wanted

    def take_constants(self, payload: memoryview) -> None:
        """Replace what the factory made by the campaign's own, float32 of ``constants_bytes``; there is no version
        until the next one is kept."""
        if self._whole is not None:
            self.base, self.digest = None, ""
            self._whole[self.layout.constants] = np.frombuffer(payload, "<f4")
            self._named.clear()

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
        if not has_digest(memory, head.digest):
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
                f"version {head.version} does not fit the model built here, of which {self.layout.num_moving} elements "
                f"can change ({error.detail}); install the campaign's model code."
            ) from error
        self._fetched = payload if isinstance(payload, memoryview) and not payload.readonly else None
        if self._whole is not None:
            front = self._whole[self.layout.moving]
            if not np.may_share_memory(values, front):
                np.copyto(front, values)
            values = self._whole
        self._version_bytes = values.nbytes
        if self._fetched is not None and not np.may_share_memory(values, np.frombuffer(self._fetched, np.uint8)):
            self._version_bytes += self._fetched.nbytes
        self.base = Parameters(values)
        self.digest = head.digest


class ModelCache:
    """The models of the campaigns that were served last, as many as there is memory for: each is built once.

    What lossy updates of a campaign have left out outlives its model: it waits on disk until that is built again.

    Args:
        device: where models live.
        state_dir: the worker's.
        max_bytes: how much all models may hold together; the one in use is kept, however large.
    """

    def __init__(self, device: torch.device, state_dir: Path, max_bytes: int) -> None:
        self._device = device
        self._residuals = ResidualStore(state_dir)
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._models: dict[str, CachedModel] = {}
        self._used: CachedModel | None = None

    def find(self, campaign: str) -> CachedModel | None:
        """A campaign's model if one was built: nothing is built or imported for a task that is not claimed yet."""
        return self._models.get(campaign)

    def get(self, task: TrainTask) -> CachedModel:
        """The task's model, built if need be.

        Raises:
            LayoutError: what is built here is not the model that the coordinator has.
            SpecError: the factory is not installed or not allowed, or refuses its arguments; so with the training
                method.
        """
        key = (task.model_factory, msgpack.packb(task.model_args), task.model_seed, task.layout_digest)
        model = self._models.get(task.campaign)
        if model is None or model.key != key:
            built = CachedModel.build(task, self._device)
            built.key, built.training = key, dict(task.training)
            if model is not None:
                self._give_up(task.campaign)
            model = built
            model.feedback.update(self._residuals.take(task.campaign, model.layout))
        elif dict(task.training) != model.training:
            # Its own words for each task: one forged order must not change how later ones are trained.
            model.settings, model.method = training_of(task)
            model.training = dict(task.training)
        self._models.pop(task.campaign, None)
        self._models[task.campaign] = model  # the most recently used is last
        self._count(model)
        while self._num_bytes > self._max_bytes and len(self._models) > 1:
            self._give_up(next(iter(self._models)))
        return model

    def forget(self, campaign: str) -> None:
        """The campaign has ended: neither its model nor what its updates have left out is needed any more."""
        self._remove(campaign)
        self._residuals.forget(campaign)

    def close(self) -> None:
        """The process ends in peace: another one goes on with what updates have left out."""
        for campaign in list(self._models):
            self._give_up(campaign)

    def _count(self, model: CachedModel) -> None:
        """Only the model that the last task used can have grown since."""
        before = self._used
        for each in (model,) if before is None or before is model else (before, model):
            num_bytes = each.num_bytes
            self._num_bytes += num_bytes - each.counted
            each.counted = num_bytes
        self._used = model

    def _give_up(self, campaign: str) -> None:
        model = self._remove(campaign)
        if model is not None:
            self._residuals.put(campaign, model.layout, model.feedback)

    def _remove(self, campaign: str) -> CachedModel | None:
        model = self._models.pop(campaign, None)
        if model is not None:
            self._num_bytes -= model.counted
            if model is self._used:
                self._used = None
        return model
