"""The campaign's spec: a TOML file, validated whole before anything starts, then frozen.

Defaults are those that the literature supports (FedBuff: Nguyen et al., AISTATS 2022, arXiv 2106.06639; FedAsync:
Xie et al. 2019, arXiv 1903.03934). Every error names the key, the value and the remedy; an unknown key is an error
with the nearest known one as a suggestion.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from fl_core.metrics import names as metric_names
from fl_core.vectors.buffers import BufferRole

METHODS = ("local", "personal", "per_fedavg", "distillation", "partial")
"""The built-in ``training.method`` names; ``fl_core.training.method`` knows where they live."""


CODECS = ("fp32", "fp16", "bf16", "int8", "topk")
"""The built-in ``codec.name``s; ``fl_core.codecs`` knows where they live."""


STRATEGIES = (
    "fedavg", "fedasync", "fedbuff", "fadas", "ca2fl", "asyncfeded", "attention", "fedatt", "robust", "partial",
    "distillation",
)  # fmt: skip
"""The built-in ``aggregation.strategy`` names; ``fl_core.aggregation.strategy`` knows where they live."""


_WITHOUT_BUFFER = ("fedavg", "fedasync", "asyncfeded")


ImportPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]


Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]


def _verify_plain(value: Any) -> Any:
    """Arguments travel as msgpack: TOML's dates, NaN and integers beyond 64 bits cannot."""
    match value:
        case dict():
            for item in value.values():
                _verify_plain(item)
        case list():
            for item in value:
                _verify_plain(item)
        case float() if not math.isfinite(value):
            raise ValueError(f"{value} is not finite; give a number")
        case int() if not -(2**63) <= value < 2**63:
            raise ValueError(f"{value} does not fit 64 bits; give a smaller number")
        case None | bool() | int() | float() | str():
            pass
        case _:
            raise ValueError(f"{str(value)!r} is a {type(value).__name__}, which cannot travel; write it as text")
    return value


Arguments = Annotated[dict[str, Any], AfterValidator(_verify_plain)]


class Section(BaseModel):
    """One table of the spec, or a strategy's own ``[aggregation.args]``: frozen, and strict about keys and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True, validate_default=True)


_SectionT = TypeVar("_SectionT", bound=Section)


class CampaignSection(Section):
    """Who the campaign is: its name, and the seed of all that is drawn at random on the coordinator."""

    name: Slug = "campaign"
    seed: int = Field(default=0, ge=0, lt=2**63)


class ModelSection(Section):
    """The model's factory, an import path that is installed on the coordinator and on every device.

    ``buffers`` says what becomes of buffers, by pattern of names, where the usual is wrong
    (``fl_core/vectors/buffers.py``).
    """

    factory: ImportPath
    args: Arguments = Field(default_factory=dict)
    buffers: dict[str, BufferRole] = Field(default_factory=dict)


class TrainingSection(Section):
    """What a device does with one task. ``local_steps`` replaces ``local_epochs`` where both could be meant.

    ``method`` is a built-in name or an import path (``fl_core.training.method``). ``schedule`` moves the learning rate
    over versions, ``local_schedule`` over the steps of one task. With ``pace_seconds`` each device fits its work to
    that time, at the speed that it has measured. What the loss is the mean over: ``fl_core/training/losses.py``.
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
        return _name_or_import_path(value, METHODS)

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


class AggregationSection(Section):
    """How updates become versions. ``strategy`` is a built-in name or the import path of a user's own."""

    strategy: str = "fedbuff"
    buffer_size: int = Field(default=10, ge=1)
    staleness: Literal["constant", "polynomial", "hinge"] = "polynomial"
    polynomial_exponent: float = Field(default=0.5, ge=0)
    hinge_slope: float = Field(default=10.0, gt=0)
    hinge_threshold: int = Field(default=4, ge=0)
    max_staleness: int | None = Field(default=50, ge=0)
    max_wait_seconds: float | None = Field(default=None, gt=0)
    mixing: float = Field(default=0.6, gt=0, le=1)
    example_weighting: bool = False
    max_update_norm: float | None = Field(default=None, gt=0)
    statistics_rate: float = Field(default=0.5, gt=0, le=1)
    args: Arguments = Field(default_factory=dict)

    @field_validator("strategy")
    @classmethod
    def _known_strategy(cls, value: str) -> str:
        return _name_or_import_path(value, STRATEGIES)


_OPTIMIZER_KEYS = {
    "momentum": ("sgd",),
    "beta1": ("adam", "fedadam", "fedadagrad", "yogi"),
    "beta2": ("adam", "fedadam", "yogi"),
    "epsilon": ("adam", "adagrad", "fedadam", "fedadagrad", "yogi"),
    "amsgrad": ("adam",),
}
"""Which rules read a key of ``[server_optimizer]``; all of them read the learning rate."""


class ServerOptimizerSection(Section):
    """The rule that applies a pseudo-gradient (Reddi et al. 2021, arXiv 2003.00295)."""

    name: Literal["sgd", "adam", "adagrad", "fedadam", "fedadagrad", "yogi"] = "sgd"
    learning_rate: float = Field(default=1.0, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    epsilon: float = Field(default=1e-3, gt=0)
    amsgrad: bool = False

    @model_validator(mode="after")
    def _nothing_unread(self) -> Self:
        for key, names in _OPTIMIZER_KEYS.items():
            value = getattr(self, key)
            if value != type(self).model_fields[key].default and self.name not in names:
                shown = "true" if value is True else value
                belongs = " or ".join(repr(name) for name in names)
                raise ValueError(f"{key} = {shown} belongs to name = {belongs}; remove it for {self.name!r}")
        return self


class DispatchSection(Section):
    """How many tasks are out at once, on which queues, and when one that stays out is given up."""

    concurrency: int = Field(default=10, ge=1, le=100_000)
    queues: tuple[Slug, ...] = Field(default=("default",), min_length=1, max_length=64)
    task_timeout_seconds: float = Field(default=600.0, gt=0)
    lease_seconds: float = Field(default=6.0, ge=1)
    max_attempts: int = Field(default=5, ge=1, le=1000)

    @field_validator("queues", mode="before")
    @classmethod
    def _list_is_fine(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("queues")
    @classmethod
    def _no_queue_twice(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a queue is named twice; name each once")
        return value


class CodecSection(Section):
    """How a device writes its update into bytes (``fl_core.codecs``).

    ``name`` is built-in, or the import path of a user's own codec, which gets ``own_args``. ``fraction`` is the share
    of elements that topk sends, and ``importance`` how the device ranks them; ``block_size`` is how many share a scale
    in int8. ``down`` is how versions are written for the devices; with ``"int8"`` who has an earlier one gets patches.
    """

    name: str = "fp32"
    down: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    own_args: Arguments = Field(default_factory=dict)
    fraction: float = Field(default=0.01, gt=0, le=1)
    importance: Literal["magnitude", "gradient", "fisher", "attention"] = "magnitude"
    block_size: int = Field(default=1024, ge=16, le=32_768)

    @field_validator("name")
    @classmethod
    def _known_codec(cls, value: str) -> str:
        return _name_or_import_path(value, CODECS)

    @model_validator(mode="after")
    def _each_setting_has_its_codec(self) -> Self:
        if self.own_args and self.name in CODECS:
            raise ValueError(f"own_args belongs to a codec of your own; {self.name!r} does not read it, remove it")
        if self.importance != "magnitude" and self.name != "topk":
            raise ValueError(
                f"importance = {self.importance!r} belongs to name = 'topk'; {self.name!r} does not read it, remove it"
            )
        return self

    @field_validator("block_size")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"it must be a power of two; use {1 << value.bit_length()}")
        return value

    @property
    def args(self) -> dict[str, Any]:
        """What the codec of that name takes."""
        match self.name:
            case "int8":
                return {"block_size": self.block_size}
            case "topk":
                return {"fraction": self.fraction, "importance": self.importance}
            case own if ":" in own:
                return dict(self.own_args)
            case _:
                return {}


class MetricSection(Section):
    """One of ``evaluation.metrics``: a built-in name (``fl_core/metrics/names.py``), or a ``factory`` of one's own.

    ``name`` is what it is called everywhere. ``args`` go to the factory, or to torchmetrics' class behind a built-in
    name. ``higher_is_better`` belongs to an own one, where it is true unless something else is said.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,47}$")]
    factory: ImportPath | None = None
    args: Arguments = Field(default_factory=dict)
    higher_is_better: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_or_path_alone_is_fine(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"factory": value} if ":" in value else {"name": value}
        if isinstance(value, dict) and "name" not in value and isinstance(factory := value.get("factory"), str):
            value = {"name": factory.rpartition(":")[2], **value}
        return value

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.factory is None and not metric_names.is_built_in(self.name):
            nearest = difflib.get_close_matches(self.name, metric_names.METRICS, n=1)
            known = ", ".join((*metric_names.METRICS, "top_<k>_accuracy"))
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"use one of {known}, or 'package.module:metric'"
            raise ValueError(f"metric {self.name!r} is not known; {hint}")
        if self.factory is None and self.higher_is_better is not None:
            raise ValueError(f"higher_is_better belongs to a metric of your own; remove it for {self.name!r}")
        if self.factory is not None and (metric_names.is_built_in(self.name) or self.name in metric_names.RESERVED):
            raise ValueError(f"metric {self.factory!r} cannot be called {self.name!r}; give it another name")
        if self.args and self.factory is None and not metric_names.needs_torchmetrics(self.name):
            raise ValueError(f"args are not read by {self.name!r}; remove them")
        return self

    @property
    def is_higher_better(self) -> bool:
        """Its direction."""
        if self.factory is None:
            return self.name not in metric_names.LOWER_IS_BETTER
        return self.higher_is_better is not False


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class EvaluationSection(Section):
    """Held-out data on the coordinator's side. Without ``data`` nothing is evaluated.

    ``metrics`` names what is reckoned beside the loss: by default accuracy, where the loss is over classes. An
    evaluation without an answer after ``timeout_seconds`` is ended; if not set, earlier ones give the time. ``show`` is
    called with the last version at the campaign's end, and what it says is printed (``fl_core.shows``).
    """

    data: ImportPath | None = None
    data_args: Arguments = Field(default_factory=dict)
    every_versions: int = Field(default=1, ge=1)
    batch_size: int = Field(default=1024, ge=1)
    timeout_seconds: float | None = Field(default=None, gt=0)
    metrics: Annotated[tuple[MetricSection, ...], Field(max_length=32)] | None = None
    show: ImportPath | None = None
    show_args: Arguments = Field(default_factory=dict)

    @field_validator("metrics", mode="before")
    @classmethod
    def _list_is_fine(cls, value: Any) -> Any:
        return _as_tuple(value)

    @field_validator("metrics")
    @classmethod
    def _no_metric_twice(cls, value: tuple[MetricSection, ...] | None) -> tuple[MetricSection, ...] | None:
        names = [each.name for each in value or ()]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"metric {twice!r} is there twice; give one of them another name, with its factory")
        return value

    @model_validator(mode="after")
    def _args_have_a_show(self) -> Self:
        if self.show_args and self.show is None:
            raise ValueError("show_args without show; name what is shown, such as show = 'fl_core.shows:sample'")
        if self.data_args and self.data is None:
            raise ValueError("data_args without data; name the factory of the held-out data that takes them")
        return self


class GuardSection(Section):
    """When a campaign has diverged, and what is done: back to the last good version, at a smaller server rate.

    ``metric`` is what tells it: one of ``evaluation.metrics``, or the loss where it is not set.
    """

    enabled: bool = True
    metric: str | None = None
    factor: float = Field(default=3.0, gt=1)
    rate_factor: float = Field(default=0.5, gt=0, lt=1)
    max_rollbacks: int = Field(default=8, ge=0, le=100)


class CheckpointSection(Section):
    """When the campaign's state is made durable: whichever of the limits is reached first.

    ``url`` replaces the run folder's own ``checkpoint/`` (a folder, or an fsspec URL that a standby shares).
    ``keep_log`` leaves every update in the log, so that the campaign can be replayed from version 0.
    """

    url: str | None = None
    keep_log: bool = False

    every_merges: int = Field(default=1000, ge=1)
    every_seconds: float = Field(default=10.0, gt=0)
    every_log_bytes: int = Field(default=256 * 2**20, ge=2**20)


class StopMetric(Section):
    """A target of ``stop.metric``: the number, and from which side it is reached."""

    name: str
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"give {self.name!r} one of at_least and at_most")
        return self

    @property
    def bound(self) -> float:
        """The number."""
        return self.at_most if self.at_least is None else self.at_least  # type: ignore[return-value]

    def is_met_by(self, value: float | None) -> bool:
        """Whether a score is on the right side; one that is absent is not."""
        if value is None:
            return False
        return value >= self.bound if self.at_least is not None else value <= self.bound


class StopSection(Section):
    """The first condition that holds ends the campaign. With none, it runs until it is stopped.

    ``accuracy``, ``loss`` and ``metric`` (a table, or a list of them) are targets: the version that met one is what is
    delivered. ``failures_without_merge`` ends one of which nothing comes (``coordinator/campaign/fruitless.py``);
    0 never does.
    """

    updates: int | None = Field(default=None, ge=1)
    versions: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0)
    accuracy: float | None = Field(default=None, gt=0, le=1)
    loss: float | None = Field(default=None)
    failures_without_merge: int | None = Field(default=None, ge=0)
    metric: tuple[StopMetric, ...] = ()

    @field_validator("metric", mode="before")
    @classmethod
    def _one_is_fine(cls, value: Any) -> Any:
        return (value,) if isinstance(value, dict) else _as_tuple(value)

    @property
    def targets(self) -> tuple[StopMetric, ...]:
        """All targets of scores, in the order in which they are looked at."""
        accuracy = () if self.accuracy is None else (StopMetric(name="accuracy", at_least=self.accuracy),)
        loss = () if self.loss is None else (StopMetric(name="loss", at_most=self.loss),)
        return (*accuracy, *loss, *self.metric)


class CampaignSpec(Section):
    """All sections. Only ``[model]`` has no default."""

    campaign: CampaignSection = Field(default_factory=CampaignSection)
    model: ModelSection
    training: TrainingSection = Field(default_factory=TrainingSection)
    aggregation: AggregationSection = Field(default_factory=AggregationSection)
    server_optimizer: ServerOptimizerSection = Field(default_factory=ServerOptimizerSection)
    dispatch: DispatchSection = Field(default_factory=DispatchSection)
    codec: CodecSection = Field(default_factory=CodecSection)
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)
    guard: GuardSection = Field(default_factory=GuardSection)
    checkpoint: CheckpointSection = Field(default_factory=CheckpointSection)
    stop: StopSection = Field(default_factory=StopSection)

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.aggregation.strategy == "fedbuff" and self.aggregation.buffer_size > self.dispatch.concurrency * 1000:
            raise ValueError(
                f"aggregation.buffer_size = {self.aggregation.buffer_size} is far above dispatch.concurrency = "
                f"{self.dispatch.concurrency}; a merge would take a thousand tasks per device"
            )
        if self.aggregation.strategy == "fedasync" and self.codec.name == "topk":
            raise ValueError(
                "codec.name = 'topk' is for deltas, and fedasync merges parameters, most of which it would set to 0; "
                "use int8, bf16 or fp16"
            )
        if self.training.method == "partial" and self.aggregation.strategy in set(STRATEGIES) - {"partial"}:
            raise ValueError(
                f"training.method = 'partial' sends parts of the model, and {self.aggregation.strategy} merges whole "
                "ones; set aggregation.strategy = 'partial'"
            )
        if self.codec.importance != "magnitude" and self.training.method in ("partial", "per_fedavg"):
            raise ValueError(
                f"codec.importance = {self.codec.importance!r} is not read with training.method = "
                f"{self.training.method!r}, whose updates are ranked by magnitude; remove it"
            )
        if self.aggregation.max_wait_seconds is not None and self.aggregation.strategy in _WITHOUT_BUFFER:
            raise ValueError(
                f"aggregation.max_wait_seconds is for strategies with a buffer, and {self.aggregation.strategy} has "
                "none that could wait; remove it"
            )
        if self.training.schedule == "plateau" and self.evaluation.data is None:
            raise ValueError(
                "training.schedule = 'plateau' counts evaluations, and there are none; name evaluation.data, or choose "
                "another schedule"
            )
        return self

    @model_validator(mode="after")
    def _scores_are_known(self) -> Self:
        wanted = [(f"stop.{name}", name) for name in ("accuracy", "loss") if getattr(self.stop, name) is not None]
        wanted += [("stop.metric", each.name) for each in self.stop.metric]
        wanted += [("guard.metric", self.guard.metric)] if self.guard.metric is not None else []
        if wanted and self.evaluation.data is None:
            key = wanted[0][0]
            needing = f"{key} needs" if key.endswith("metric") else "stop.accuracy and stop.loss need"
            raise ValueError(f"{needing} evaluation.data; name held-out data or remove them")
        own = {each.name for each in self.evaluation.metrics or () if each.factory is not None}
        for key, name in wanted:
            if name != "loss" and name not in own and not metric_names.is_built_in(name):
                raise ValueError(f"{key} names {name!r}, which is no metric; see evaluation.metrics")
        for each in self.stop.metric:
            side, other = ("at_least", "at_most") if self.is_higher_better(each.name) else ("at_most", "at_least")
            if getattr(each, side) is None:
                better = "higher" if side == "at_least" else "lower"
                raise ValueError(f"stop.metric {each.name!r} is the better the {better}; write {side} for {other}")
            best = metric_names.best_possible(each.name)
            if best is not None and not each.is_met_by(best):
                raise ValueError(
                    f"stop.metric {each.name!r} {side} {each.bound:g} can never be met, since the best is {best:g}"
                )
        built_in = {"mse": "numbers", "l1": "numbers", "cross_entropy": "classes", "bce_with_logits": "classes"}
        of = built_in.get(self.training.loss)
        for metric in self.metrics if of is not None else ():
            if metric.factory is None and metric_names.kind_of(metric.name) != of:
                raise ValueError(
                    f"metric {metric.name!r} is of {metric_names.kind_of(metric.name)}, and training.loss = "
                    f"{self.training.loss!r} is over {of}; remove one of them"
                )
        return self

    @property
    def metrics(self) -> tuple[MetricSection, ...]:
        """What evaluations reckon beside the loss: ``evaluation.metrics``, and what ``stop`` and ``guard`` name.

        Without ``evaluation.metrics`` accuracy, where the loss is over classes by its name. The first one is what
        curves and pages show first.
        """
        named = self.evaluation.metrics
        default = self.training.loss in ("cross_entropy", "bce_with_logits")
        found = list(named if named is not None else (MetricSection(name="accuracy"),) if default else ())
        asked = [each.name for each in self.stop.targets] + ([self.guard.metric] if self.guard.metric else [])
        for name in asked:
            if name != "loss" and all(each.name != name for each in found):
                found.append(MetricSection(name=name))
        return tuple(found)

    @property
    def has_optional_metrics(self) -> bool:
        """Whether it is left to the targets what is reckoned: an own loss, and no metric named."""
        return ":" in self.training.loss and self.evaluation.metrics is None and not self.metrics

    def is_higher_better(self, name: str) -> bool:
        """The direction of ``"loss"`` or of one of ``metrics``."""
        named = next((each for each in self.evaluation.metrics or () if each.name == name), None)
        return named.is_higher_better if named is not None else name not in metric_names.LOWER_IS_BETTER

    def digest(self) -> str:
        """A name for exactly this spec: 32 hex characters."""
        # Sorted, because equal specs may have been written in another order.
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def _name_or_import_path(value: str, names: tuple[str, ...]) -> str:
    if value in names:
        return value
    if ":" in value:
        module, _, name = value.partition(":")
        if all(part.isidentifier() for part in (*module.split("."), name)):
            return value
    nearest = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "or an import path 'package.module:callable'"
    raise ValueError(f"it is one of {', '.join(repr(n) for n in names)}; {hint}")
