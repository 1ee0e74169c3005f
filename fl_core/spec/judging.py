"""The sections that judge a campaign: evaluation, guard and stop."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Self

from pydantic import (
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from fl_core.metrics import names as metric_names
from fl_core.spec.section import (
    Arguments,
    ImportPath,
    Section,
    as_tuple,
)


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
        return as_tuple(value)

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

    ``metric`` shows it: one of ``evaluation.metrics``, or the loss where it is not set.
    """

    enabled: bool = True
    metric: str | None = None
    factor: float = Field(default=3.0, gt=1)
    rate_factor: float = Field(default=0.5, gt=0, lt=1)
    max_rollbacks: int = Field(default=8, ge=0, le=100)


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
        return (value,) if isinstance(value, dict) else as_tuple(value)

    @property
    def targets(self) -> tuple[StopMetric, ...]:
        """All targets of scores, in the order in which they are looked at."""
        accuracy = () if self.accuracy is None else (StopMetric(name="accuracy", at_least=self.accuracy),)
        loss = () if self.loss is None else (StopMetric(name="loss", at_most=self.loss),)
        return (*accuracy, *loss, *self.metric)
