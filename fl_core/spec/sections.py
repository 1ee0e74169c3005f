"""The campaign's spec: a TOML file, validated whole before anything starts, then frozen.

Defaults are those that the literature supports (FedBuff: Nguyen et al., AISTATS 2022, arXiv 2106.06639; FedAsync:
Xie et al. 2019, arXiv 1903.03934). Every error names the key, the value and the remedy; an unknown key is an error
with the nearest known one as a suggestion.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, Self

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from fl_core.built_in import STRATEGIES
from fl_core.metrics import names as metric_names
from fl_core.spec.codec import CodecSection
from fl_core.spec.combinations import Choice, refusal
from fl_core.spec.judging import EvaluationSection, GuardSection, MetricSection, StopSection
from fl_core.spec.privacy import PrivacySection
from fl_core.spec.section import (
    Arguments,
    ImportPath,
    Section,
    Slug,
    name_or_import_path,
)
from fl_core.spec.secure_aggregation import SecureAggregationSection
from fl_core.spec.training import TrainingSection
from fl_core.vectors.buffers import BufferRole


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
        return name_or_import_path(value, STRATEGIES)


class ServerOptimizerSection(Section):
    """The rule that applies a pseudo-gradient (Reddi et al. 2021, arXiv 2003.00295)."""

    name: Literal["sgd", "adam", "adagrad", "fedadam", "fedadagrad", "yogi"] = "sgd"
    learning_rate: float = Field(default=1.0, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    epsilon: float = Field(default=1e-3, gt=0)
    amsgrad: bool = False


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
    privacy: PrivacySection = Field(default_factory=PrivacySection)
    secure_aggregation: SecureAggregationSection = Field(default_factory=SecureAggregationSection)
    stop: StopSection = Field(default_factory=StopSection)

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        if (sentence := refusal(Choice.of(self))) is not None:
            raise ValueError(sentence)
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
        """The metrics to compute beside the loss: ``evaluation.metrics``, and those that ``stop`` and ``guard`` name.

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
