"""The method ``partial``: each task trains and sends only a part of the model.

A device then computes and sends less: layer groups in turn, the head alone, or adapters (``fl_core.models:lora``).
Training parts in turn is block coordinate descent across the fleet; sub-models of a larger one: Horvath et al.,
"FjORD", NeurIPS 2021, arXiv 2102.13451, and Alam et al., "FedRolex", NeurIPS 2022, arXiv 2212.01548. The strategy
``partial`` merges such updates.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator

from fl_core.spec import Section, TrainingSection, parse_section
from fl_core.training.batches import count_examples, floating_dtype, iterate
from fl_core.training.forward import apply
from fl_core.training.losses import Loss
from fl_core.training.method import DeviceTask, Method, Outcome, read_method_args
from fl_core.vectors.layout import Layout
from fl_core.vectors.model_parts import Parts

Group = tuple[str, ...]


class PartialArgs(Section):
    """``[training.method_args]`` of ``partial``: either ``groups`` or ``num_parts``.

    Attributes:
        groups: for each part the beginnings of its tensors' names, such as ``[["0."], ["2.", "4."]]``, or patterns:
            ``[["*.lora_*"]]``.
        num_parts: that many parts of about the same size instead.
        choice: ``cycle`` takes the parts in turn, each device from a place of its own; ``importance`` draws a part
            with probability in proportion to its squared gradient on a batch of this device's data.
    """

    groups: tuple[Group, ...] = ()
    num_parts: int | None = Field(default=None, ge=2, le=1000)
    choice: Literal["cycle", "importance"] = "cycle"

    @field_validator("groups", mode="before")
    @classmethod
    def _lists_are_fine(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return tuple(tuple(group) if isinstance(group, list) else group for group in value)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.groups) == (self.num_parts is not None):
            raise ValueError("give either groups or num_parts")
        if any(not group or "" in group for group in self.groups):
            raise ValueError("a group without a name would match everything or nothing; name its tensors")
        return self


def parts_of(settings: Mapping[str, Any], layout: Layout) -> Parts:
    """The parts that ``training.method_args`` divides a model into.

    Raises:
        SpecError: it does not fit the model.
    """
    return _parts(parse_section(PartialArgs, dict(settings), "training.method_args"), layout)


def _parts(args: PartialArgs, layout: Layout) -> Parts:
    weights = layout.weights
    return Parts(weights, args.groups) if args.num_parts is None else Parts.even(weights, args.num_parts)


class Partial(Method):
    """Sends the delta of one part; parameters outside it are frozen for the task.

    Args:
        groups, num_parts, choice: as of ``PartialArgs``.

    Raises:
        SpecError: a setting is not accepted.
    """

    def __init__(
        self,
        *,
        groups: Sequence[Group] = (),
        num_parts: int | None = None,
        choice: Literal["cycle", "importance"] = "cycle",
    ) -> None:
        settings = {"groups": tuple(groups), "num_parts": num_parts, "choice": choice}
        self._args = parse_section(PartialArgs, settings, "Partial")

    @classmethod
    def from_settings(cls, settings: TrainingSection) -> Self:
        """With ``training.method_args``."""
        return cls(**dict(read_method_args(settings, PartialArgs)))

    def train(self, task: DeviceTask) -> Outcome:
        """Choose a part, train it, send it."""
        parts = _parts(self._args, task.layout)
        part = _in_turn(task, parts.count) if self._args.choice == "cycle" else _by_importance(task, parts)
        names = parts.names(part)
        frozen = [p for name, p in task.model.named_parameters() if p.requires_grad and name not in names]
        try:
            for parameter in frozen:
                parameter.requires_grad_(False)
            training = task.train()
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
        values = parts.gather(task.layout.weights_of(task.model), part)
        np.subtract(values, parts.gather(task.base.values[task.layout.trainable], part), out=values)
        return Outcome(values=values, training=training, part=part)


def _in_turn(task: DeviceTask, count: int) -> int:
    """The next part of this device; the first one depends on its name, so that a fleet does not march in step."""
    before = task.memory.get("parts_done")
    done = 0 if before is None else int(before[0])
    task.memory["parts_done"] = np.array([(done + 1) % count], np.float32)
    return 1 + (zlib.crc32(task.worker.encode()) + done) % count


def _by_importance(task: DeviceTask, parts: Parts) -> int:
    squares = _squared_gradients(task)
    weights = np.array([sum(squares[i] for i in parts.tensors(part)) for part in range(1, parts.count + 1)])
    if not np.isfinite(weights).all() or weights.sum() <= 0:
        weights = np.ones_like(weights)
    generator = np.random.default_rng(task.seed)
    return 1 + int(generator.choice(parts.count, p=weights / weights.sum()))


def _squared_gradients(task: DeviceTask) -> Sequence[float]:
    """The squared norm of each tensor's gradient on one batch, in the layout's order; 0 where nothing is trained."""
    generator = torch.Generator().manual_seed(task.seed)
    order = torch.randperm(count_examples(task.dataset), generator=generator)[: task.settings.batch_size]
    task.model.eval()  # a look, not a step: running statistics stay
    inputs, target = next(iterate(task.dataset, [order], task.device, floating_dtype(task.model)))
    loss = Loss(task.settings)(apply(task.model, inputs), target).mean
    named = {name: p for name, p in task.model.named_parameters() if p.requires_grad}
    gradients = dict(zip(named, torch.autograd.grad(loss, list(named.values()), allow_unused=True), strict=True))
    squares = {name: 0.0 if g is None else float(g.square().sum()) for name, g in gradients.items()}
    return [squares.get(spec.name, 0.0) for spec in task.layout.weights.tensors]
