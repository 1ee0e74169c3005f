"""The base class of training methods: from a base version and private data to the vector that a device sends.

A method is a subclass of ``Method`` that has ``train``; a spec names it by a built-in name or by its import path. It is
built on the coordinator too, at launch, so that bad ``method_args`` are refused there before any device sees them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar, get_args

import torch
from torch import nn
from torch.utils.data import Dataset

from fl_core.built_in import METHODS
from fl_core.errors import SpecError
from fl_core.factory import resolve
from fl_core.signatures import verified, verify_class, verify_inherits
from fl_core.spec import Section, TrainingSection, parse_section
from fl_core.training.local import LocalTraining, train_locally
from fl_core.user_code import build
from fl_core.vectors import FloatArray, Parameters, Sends
from fl_core.vectors.layout import Layout

KEY = "training.method"
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
    """The result of a method.

    Attributes:
        values: float32, what is sent of the weights (or soft labels); the caller's from now on.
        training: what local training reported.
        part: which part of the model ``values`` is, from 1; 0 is the whole.
        metrics: finite numbers about this task, beside those of ``training``.
        state: the values of the buffers that devices send, float32 ``(num_state,)``; None takes those of the task's
            model when the method is done.
    """

    values: FloatArray
    training: LocalTraining
    state: FloatArray | None = None
    part: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


class Method(ABC):
    """A device's way to do a task.

    A subclass takes settings of its own as arguments by name: a spec gives them in ``[training.method_args]``. Methods
    of another form are refused when the class is made.

    Attributes:
        sends: what it can send; the campaign's strategy has to merge one of these.

    Raises:
        SpecError: a method of a subclass has another form (when the class is made).
    """

    sends: tuple[Sends, ...] = ("delta",)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        verify_class(cls, Method, ("train",))

    @classmethod
    def from_settings(cls, settings: TrainingSection) -> Self:
        """The method of a campaign, from its ``[training]``; ``method_args`` become arguments by name.

        Raises:
            SpecError: a setting is not accepted.
        """
        return cls(**settings.method_args)

    @abstractmethod
    def train(self, task: DeviceTask) -> Outcome:
        """Do one task.

        Raises:
            TrainingStopped: the task was cancelled meanwhile.
            DataError: this device's data does not fit.
            SpecError: the spec does not fit this device.
        """


def build_method(settings: TrainingSection) -> Method:
    """The method that ``training.method`` names.

    A class is made by its ``from_settings``, which by default calls it with ``training.method_args`` by name; another
    callable is called so itself.

    Raises:
        SpecError: it cannot be imported, is no method, or refuses ``training.method_args``.
    """
    name = settings.method
    made: Any = resolve(METHODS.get(name, name), KEY)
    if name in METHODS:
        built_in: Method = made.from_settings(settings)
        return built_in
    if isinstance(made, type):
        verify_inherits(KEY, name, made, Method)
    if isinstance(made, type) and made.from_settings.__func__ is not Method.from_settings.__func__:  # type: ignore[attr-defined]
        method = build(KEY, name, made.from_settings, settings)  # type: ignore[attr-defined]
    else:
        method = build(KEY, name, made, **verified(KEY, name, made, (), settings.method_args))
    if not isinstance(method, Method):
        raise SpecError(f"{KEY} = {name!r} gave a {type(method).__name__}, which is no fedtide.Method.")
    sends: Any = method.sends
    if not (isinstance(sends, (tuple, list)) and sends and set(sends) <= set(get_args(Sends))):
        raise SpecError(
            f"{KEY} = {name!r} gave a {type(method).__name__} with sends = {sends!r}; it is a tuple of some of "
            f"{', '.join(map(repr, get_args(Sends)))}."
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
