"""The method ``per_fedavg``: train the base so that one gradient step on a device's data makes a good personal model.

Fallah, Mokhtari and Ozdaglar, "Personalized Federated Learning with Theoretical Guarantees: A Model-Agnostic
Meta-Learning Approach", NeurIPS 2020, arXiv 2002.07948, algorithm 1. Each local step takes two batches D and D':

    w~ = w - α ∇f(w; D),    w <- w - β (I - α ∇²f(w; D)) ∇f(w~; D')

The first-order variant leaves the Hessian out. The paper draws a third batch for the Hessian; with D again, as here,
the step is the exact gradient of f(w - α ∇f(w; D); D').
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import count
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import Dataset

from fl_core.errors import DataError, TrainingStopped
from fl_core.spec import Section, TrainingSection, parse_section
from fl_core.training.batches import floating_dtype, iterate, split_order
from fl_core.training.device import seeded
from fl_core.training.forward import arguments, prediction
from fl_core.training.holdout import split_private
from fl_core.training.local import LocalTraining
from fl_core.training.local_optimizer import LocalOptimizer
from fl_core.training.losses import BatchLoss, Loss, mean_of
from fl_core.training.method import DeviceTask, Method, Outcome, read_method_args
from fl_core.training.methods.personal import scores_on
from fl_core.training.schedule import step_factor


class PerFedAvgArgs(Section):
    """``[training.method_args]`` of ``per_fedavg``.

    Attributes:
        inner_learning_rate: α. β is ``training.learning_rate``, and ``training.optimizer`` makes the outer step.
        first_order: leave the Hessian out.
        test_fraction: share of the private data for the reported accuracies.
    """

    inner_learning_rate: float = Field(default=0.05, gt=0)
    first_order: bool = True
    test_fraction: float = Field(default=0.2, gt=0, lt=0.5)


class PerFedAvg(Method):
    """Sends the delta; reports ``global_accuracy``, and ``personal_accuracy`` after one step from the new base.

    Args:
        inner_learning_rate, first_order, test_fraction: as of ``PerFedAvgArgs``.

    Raises:
        SpecError: a setting lies outside of its range.
    """

    def __init__(
        self, *, inner_learning_rate: float = 0.05, first_order: bool = True, test_fraction: float = 0.2
    ) -> None:
        settings = {
            "inner_learning_rate": inner_learning_rate, "first_order": first_order, "test_fraction": test_fraction,
        }  # fmt: skip
        self._args = parse_section(PerFedAvgArgs, settings, "PerFedAvg")

    @classmethod
    def from_settings(cls, settings: TrainingSection) -> Self:
        """With ``training.method_args``."""
        return cls(**dict(read_method_args(settings, PerFedAvgArgs)))

    def train(self, task: DeviceTask) -> Outcome:
        """One task of ``local_steps``, or of as many as the epochs hold pairs of batches."""
        started, model, settings = time.perf_counter(), task.model, task.settings
        training, _, test = split_private(task.dataset, task.worker, 0.0, self._args.test_fraction)
        metrics = scores_on(task, test, "global")
        batches = _Batches(task, training)
        num_steps = settings.local_steps or settings.epochs * max(1, len(training) // (2 * settings.batch_size))
        model.train()
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        optimizer = LocalOptimizer(list(parameters.values()), settings)
        losses: list[tuple[Tensor, Tensor | float]] = []
        num_seen = 0
        with seeded(task.seed, task.device):
            for step in range(num_steps):
                if task.should_stop is not None and task.should_stop():
                    raise TrainingStopped("Local training was stopped before its end; the task's work is dropped.")
                first, second = batches.draw(), batches.draw()
                loss, weight = _loss(task, self._adapt(task, parameters, first, keep_graph=True), second)
                gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
                for parameter, gradient in zip(parameters.values(), gradients, strict=True):
                    parameter.grad = gradient
                if settings.max_gradient_norm is not None:
                    clip_grad_norm_(list(parameters.values()), settings.max_gradient_norm)
                optimizer.step(step_factor(settings, step, num_steps))
                losses.append((loss.detach(), weight))
                num_examples = len(first[1]) + len(second[1])
                num_seen += num_examples
                if task.emulate_example_seconds:
                    time.sleep(task.emulate_example_seconds * num_examples)
            values, state = task.layout.weights_of(model), task.layout.state_of(model)
            np.subtract(values, task.base.values[task.layout.trainable], out=values)
            adapted = self._adapt(task, parameters, batches.draw(), keep_graph=False)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(adapted[name])
        metrics |= scores_on(task, test, "personal")
        mean_loss = mean_of(losses)
        if mean_loss is None:
            raise DataError("None of the targets that this task drew counts; give this device labelled data.")
        done = LocalTraining(
            num_examples=len(training),
            num_steps=num_steps,
            loss=mean_loss,
            metrics={"loss": mean_loss},
            seconds=time.perf_counter() - started,
            num_seen=num_seen,
        )
        return Outcome(values=values, training=done, metrics=metrics, state=state)

    def _adapt(
        self, task: DeviceTask, parameters: Mapping[str, Tensor], batch: tuple[Any, Tensor], *, keep_graph: bool
    ) -> dict[str, Tensor]:
        """w - α ∇f(w; batch)."""
        loss = _loss(task, parameters, batch).mean
        exact = keep_graph and not self._args.first_order
        gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=exact, allow_unused=True)
        return {
            name: parameter if gradient is None else parameter - self._args.inner_learning_rate * gradient
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
        }


class _Batches:
    """Batches of the device's examples, for ever, in an order that the task's seed draws again for each epoch."""

    def __init__(self, task: DeviceTask, dataset: Dataset[Any]) -> None:
        self._task = task
        self._dataset = dataset
        self._loss = Loss(task.settings)
        # Two epochs: in each, an order of its own, and the first of the two may be half over.
        self._num_batches = 2 * -(-len(dataset) // task.settings.batch_size)  # type: ignore[arg-type]
        self._stream = self._endless()

    def draw(self) -> tuple[Any, Tensor]:
        """The next one in which a target counts.

        Raises:
            DataError: a whole epoch has none.
        """
        for _ in range(self._num_batches):
            batch: tuple[Any, Tensor] = next(self._stream)
            labelled = self._loss.labelled(batch[1])
            if labelled is None or bool(labelled.any()):
                return batch
        raise DataError("No target of this device's dataset counts; give it labelled data.")

    def _endless(self) -> Any:
        generator = torch.Generator().manual_seed(self._task.seed)
        num_examples = len(self._dataset)  # type: ignore[arg-type]
        for _ in count():
            order = torch.randperm(num_examples, generator=generator)
            batches = split_order(order, self._task.settings.batch_size, join_single=True)
            yield from iterate(self._dataset, batches, self._task.device, floating_dtype(self._task.model))


def _loss(task: DeviceTask, parameters: Mapping[str, Tensor], batch: tuple[Any, Tensor]) -> BatchLoss:
    inputs, target = batch
    args, named = arguments(task.model, inputs)
    output = prediction(task.model, functional_call(task.model, dict(parameters), args, named))
    return Loss(task.settings)(output, target)
