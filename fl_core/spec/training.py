"""The section ``[training]``: what devices do."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from fl_core.built_in import METHODS
from fl_core.spec.section import (
    Arguments,
    Section,
    name_or_import_path,
)


class TrainingSection(Section):
    """How a device does one task. ``local_steps`` replaces ``local_epochs`` where both could be meant.

    ``method`` is a built-in name or an import path (``fl_core.training.method``). ``schedule`` moves the learning rate
    over versions, ``local_schedule`` over the steps of one task. With ``pace_seconds`` each device fits its work to
    that time, at the speed that it has measured. The loss's mean is explained in ``fl_core/training/losses.py``.
    """

    method: str = "local"
    method_args: Arguments = Field(default_factory=dict)
    loss: str = "cross_entropy"
    loss_average: Literal["element", "example"] | None = None
    ignore_index: int | None = None
    class_dim: Literal[1, -1] | None = None
    class_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.05, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    local_epochs: int | None = Field(default=None, ge=1)
    local_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=32, ge=1)
    proximal_weight: float = Field(default=0.0, ge=0)
    max_gradient_norm: float | None = Field(default=None, gt=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    schedule: Literal["constant", "step", "exponential", "cosine", "plateau"] = "constant"
    schedule_period: int = Field(default=100, ge=1)
    schedule_factor: float = Field(default=0.5, gt=0, le=1)
    schedule_floor: float = Field(default=0.0, ge=0, le=1)
    local_schedule: Literal["constant", "step", "exponential", "cosine"] = "constant"
    local_schedule_period: int = Field(default=10, ge=1)
    local_schedule_factor: float = Field(default=0.5, gt=0, le=1)
    distillation_weight: float = Field(default=0.0, ge=0)
    distillation_temperature: float = Field(default=2.0, gt=0)
    pace_seconds: float | None = Field(default=None, gt=0)
    min_steps: int = Field(default=1, ge=1)
    max_steps: int = Field(default=1000, ge=1)
    min_batch_size: int = Field(default=8, ge=1)

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        return name_or_import_path(value, METHODS)

    @field_validator("class_weights", mode="before")
    @classmethod
    def _list_is_fine(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _class_weights_have_classes(self) -> Self:
        if self.class_weights is not None and self.loss != "cross_entropy":
            raise ValueError(f"class_weights belongs to loss = 'cross_entropy'; remove it for {self.loss!r}")
        if self.class_weights is not None and not any(self.class_weights):
            raise ValueError("class_weights are all 0; give a class that counts a weight above 0")
        return self

    @model_validator(mode="after")
    def _pace_has_room(self) -> Self:
        if self.pace_seconds is None:
            return self
        if self.local_epochs is not None or self.local_steps is not None:
            raise ValueError(
                "pace_seconds chooses the number of steps on each device; remove local_epochs and local_steps"
            )
        if self.min_steps > self.max_steps:
            raise ValueError(f"min_steps = {self.min_steps} is above max_steps = {self.max_steps}; swap them")
        if self.min_batch_size > self.batch_size:
            raise ValueError(
                f"min_batch_size = {self.min_batch_size} is above batch_size = {self.batch_size}; lower it"
            )
        return self

    @model_validator(mode="after")
    def _one_measure_of_work(self) -> Self:
        if self.local_epochs is not None and self.local_steps is not None:
            raise ValueError("local_epochs and local_steps are both set; keep one of them")
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(
                f"momentum = {self.momentum} belongs to optimizer = 'sgd'; remove it for {self.optimizer!r}"
            )
        return self

    @property
    def epochs(self) -> int:
        """Local epochs per task when ``local_steps`` is not set; 1 by default."""
        return self.local_epochs or 1
