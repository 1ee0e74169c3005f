"""What a training method is: a device's way from a base version and private data to the vector that it sends.

A method is a class that takes the ``[training]`` section and has ``train``. To add one, write that class and name it in
``BUILT_IN``, or name it in a spec by its import path. It is built on the coordinator too, at launch, so that bad
``method_args`` are refused there before any device sees them.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, get_args, runtime_checkable

import torch
from torch import nn
from torch.utils.data import Dataset

from fl_core.errors import SpecError
from fl_core.factory import resolve
from fl_core.spec import Section, TrainingSection, parse_section
from fl_core.training.local import LocalTraining, train_locally
from fl_core.user_code import build, verify_members
from fl_core.vectors import FloatArray, Parameters, Sends
from fl_core.vectors.layout import Layout

BUILT_IN = {
    "local": "fl_core.training.methods.local_sgd:LocalSGD",
    "personal": "fl_core.training.methods.personal:Personal",
    "per_fedavg": "fl_core.training.methods.per_fedavg:PerFedAvg",
    "distillation": "fl_core.training.methods.soft_labels:Distillation",
    "partial": "fl_core.training.methods.partial:Partial",
}

Importance = Literal["", "gradient", "fisher"]
_ArgsT = TypeVar("_ArgsT", bound=Section)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTask:
    """Everything that a method may use.

    Attributes:
        model: the campaign's, with the base version's parameters loaded, on ``device``; the method may change it.
        layout: the model's.
        base: the base version, float32 ``(num_elements,)``, read-only.
        version: its number.
        sends: what the campaign's strategy merges.
        dataset: the device's private data, map-style.
        settings: of this task: schedules and pace are already in ``learning_rate``, ``local_steps``, ``batch_size``.
        seed: of everything drawn at random in this task. 0 <= seed < 2**63.
        device: where to train.
        worker: this device's name.
        memory: vectors that stay on this device from one task of the campaign to the next, and over a restart.
        own_model: builds the device's own architecture, None where it has none.
        importance: what ``train`` has to accumulate for the codec.
        spare: float32 ``(num_parameters,)`` that may become the outcome's ``values``; None where there is none.
        should_stop: asked before each step.
        emulate_example_seconds: added per example, to play a slow device in a trial.
    """

    model: nn.Module
    layout: Layout
    base: Parameters
    version: int
    sends: Sends
    dataset: Dataset[Any]
    settings: TrainingSection
    seed: int
    device: torch.device
    worker: str
    memory: MutableMapping[str, FloatArray]
    own_model: Callable[[], nn.Module] | None = None
    importance: Importance = ""
    spare: FloatArray | None = None
    should_stop: Callable[[], bool] | None = None
    emulate_example_seconds: float = 0.0

    def train(
        self,
        model: nn.Module | None = None,
        dataset: Dataset[Any] | None = None,
        settings: TrainingSection | None = None,
    ) -> LocalTraining:
        """Local training with this task's seed and device; see ``train_locally`` for what it raises.

        Args:
            model, dataset, settings: other ones than the task's.
        """
        return train_locally(
            self.model if model is None else model,
            self.dataset if dataset is None else dataset,
            self.settings if settings is None else settings,
            seed=self.seed,
            should_stop=self.should_stop,
            device=self.device,
            importance=self.importance if model is None else "",
            emulate_example_seconds=self.emulate_example_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a method comes to.

    Attributes:
        values: float32, what is sent of the weights (or soft labels); the caller's from now on.
        training: what local training reported.
        part: which part of the model ``values`` is, from 1; 0 is the whole.
        metrics: finite numbers about this task, beside those of ``training``.
        state: the values of the buffers that devices send, float32 ``(num_state,)``; those that the task's model has
            when the method is done where this is None.
    """

    values: FloatArray
    training: LocalTraining
    state: FloatArray | None = None
    part: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class Method(Protocol):
    """A device's way to do a task."""

    @property
    def sends(self) -> tuple[Sends, ...]:
        """What it can send; the campaign's strategy has to merge one of these."""
        ...

    def train(self, task: DeviceTask) -> Outcome:
        """Do one task.

        Raises:
            TrainingStopped: the task was cancelled meanwhile.
            DataError: this device's data does not fit.
            SpecError: the spec does not fit this device.
        """
        ...


def verify_method(settings: TrainingSection, sends: Sends) -> None:
    """Refuse a method that cannot send what the campaign's strategy merges.

    Raises:
        SpecError: it cannot, or it cannot be built at all.
    """
    able = build_method(settings).sends
    if sends not in able:
        raise SpecError(
            f"training.method = {settings.method!r} sends {' or '.join(able)} and aggregation.strategy merges {sends}; "
            "choose a strategy and a method that fit each other."
        )


def build_method(settings: TrainingSection) -> Method:
    """The method that ``training.method`` names.

    Raises:
        SpecError: it cannot be imported, is no method, or refuses ``training.method_args``.
    """
    name = settings.method
    make = resolve(BUILT_IN.get(name, name), "training.method")
    if name in BUILT_IN:
        built_in: Method = make(settings)
        return built_in
    method: Method = build("training.method", name, make, settings)
    verify_members("training.method", name, method, Method, "sends", "train(task)")
    if not (isinstance(method.sends, (tuple, list)) and method.sends and set(method.sends) <= set(get_args(Sends))):
        raise SpecError(
            f"training.method = {name!r} gave a {type(method).__name__} with sends = {method.sends!r}; it is a "
            f"tuple of some of {', '.join(map(repr, get_args(Sends)))}."
        )
    return method


def read_method_args(settings: TrainingSection, model: type[_ArgsT]) -> _ArgsT:
    """A method's own settings, ``[training.method_args]``, validated as any other section.

    Raises:
        SpecError: a key is unknown or its value is not accepted.
    """
    return parse_section(model, dict(settings.method_args), "training.method_args")


class NoArgs(Section):
    """Of a method that reads no ``method_args``: any key is refused."""
