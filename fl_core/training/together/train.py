"""Local SGD on many devices at once: the same steps as ``train_locally``, over a batch of devices by ``torch.func``.

A small model's step costs the processor less than the calls that make it up. Here one call makes the step of hundreds
of devices: their parameters are stacked along a first dimension, and ``torch.vmap`` maps the gradient over it (measured
on one core, 100 steps of batch 10 of a linear model: 80 trainings per second one by one, 900 by 256 at once). Sums come
in another order than one by one, so the results differ in their last bits; the same batch gives the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from fl_core.spec import TrainingSection
from fl_core.training.local import LocalTraining
from fl_core.training.method import Method, Outcome
from fl_core.training.methods.local_sgd import LocalSGD
from fl_core.training.together.examples import Reader, pad
from fl_core.training.together.plan import Assignment, Plan
from fl_core.vectors import FloatArray, Sends
from fl_core.vectors.layout import Layout

# What the examples of one batch of devices may take; fewer devices train at once where theirs are larger.
MAX_BYTES = 256 * 2**20

_Stacked: TypeAlias = dict[str, Tensor]
_LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
}


def obstacle(model: nn.Module, layout: Layout, settings: TrainingSection, method: Method) -> str:
    """Why devices cannot train this together, as the end of a sentence; empty where they can, as far as is known.

    Args:
        model, layout: the campaign's.
        settings: its ``[training]``.
        method: what ``training.method`` names.
    """
    for found, why in (
        (type(method) is not LocalSGD, f"training.method = {settings.method!r} has steps of its own"),
        (settings.optimizer != "sgd", f"training.optimizer = {settings.optimizer!r} is not 'sgd'"),
        (settings.loss not in _LOSSES, f"training.loss = {settings.loss!r} is an own one"),
        (settings.loss_average == "example", "training.loss_average = 'example' averages in two steps"),
        (settings.class_weights is not None, "training.class_weights is set"),
        (settings.ignore_index is not None, "training.ignore_index is set"),
        (settings.precision != "float32", f"training.precision = {settings.precision!r} is not 'float32'"),
        (settings.distillation_weight > 0, "training.distillation_weight is set"),
        (any(True for _ in model.buffers()), f"{type(model).__name__} has buffers"),
        (
            any(not p.requires_grad or p.dtype != torch.float32 for p in model.parameters()),
            f"{type(model).__name__} has parameters that are frozen or not float32",
        ),
        (layout.num_elements != layout.num_parameters, f"{type(model).__name__} has tensors beside its parameters"),
    ):
        if found:
            return why
    return ""


class Together:
    """Trains assignments of one campaign at once.

    Args:
        model, layout: the campaign's; the model's own parameters are not read.
        sends: what the campaign's strategy merges.

    Attributes:
        sends: the same.
    """

    def __init__(self, model: nn.Module, layout: Layout, sends: Sends) -> None:
        self._model = model.train()
        self._layout = layout
        self.sends = sends

    def train(self, assignments: Sequence[Assignment]) -> list[Outcome]:
        """What each assignment comes to.

        Args:
            assignments: with the same settings but for learning rates and amounts of work.

        Raises:
            RuntimeError, and what else the model raises: it does not allow to be mapped over.
        """
        started = time.perf_counter()
        settings = assignments[0].settings
        plans = [Plan.of(assignment) for assignment in assignments]
        bases = torch.from_numpy(
            np.stack([assignment.base.values[self._layout.trainable] for assignment in assignments])
        )
        parameters = self._named(bases.clone())
        momentum = {name: torch.zeros_like(p) for name, p in parameters.items()} if settings.momentum else {}
        start = self._named(bases) if settings.proximal_weight else {}
        read = Reader([assignment.examples for assignment in assignments])
        order = pad([plan.order for plan in plans])
        counts = pad([plan.counts for plan in plans])
        rates = pad([plan.rates for plan in plans])
        ragged = bool((counts != counts[0, 0]).any())
        step = torch.vmap(grad_and_value(self._masked(settings) if ragged else self._plain(settings)))
        position = torch.arange(order.shape[2])
        losses = torch.empty(order.shape[:2])
        for at in range(order.shape[1]):
            inputs, targets = read(order[:, at])
            mask = ((position < counts[:, at, None]).float(),) if ragged else ()
            gradients, losses[:, at] = step(parameters, inputs, targets, *mask)
            for name, gradient in gradients.items():
                if start:
                    gradient.add_(parameters[name] - start[name], alpha=settings.proximal_weight)
            if settings.max_gradient_norm is not None:
                _clip(gradients, settings.max_gradient_norm)
            _move(parameters, gradients, momentum, rates[:, at], settings)
        values = self._layout_values(parameters)
        if self.sends == "delta":
            values = values - bases.numpy()
        seconds = (time.perf_counter() - started) / len(assignments)
        known = losses.double().numpy()
        return [
            Outcome(
                values=values[i],
                training=_training(assignments[i], plans[i], known[i], seconds),
                state=np.empty(0, np.float32),
            )
            for i in range(len(assignments))
        ]

    def _named(self, stacked: Tensor) -> _Stacked:
        """A stack of vectors as views by parameter."""
        shapes = [(spec.name, spec.shape) for spec in self._layout.tensors]
        sizes = [int(np.prod(shape)) for _, shape in shapes]
        parts = torch.split(stacked, sizes, dim=1)
        return {name: part.reshape(-1, *shape) for (name, shape), part in zip(shapes, parts, strict=True)}

    def _layout_values(self, parameters: _Stacked) -> FloatArray:
        parts = [parameters[spec.name].reshape(len(parameters[spec.name]), -1) for spec in self._layout.tensors]
        values: FloatArray = torch.cat(parts, dim=1).numpy()
        return values

    def _plain(self, settings: TrainingSection) -> Callable[..., Tensor]:
        loss = _LOSSES[settings.loss]

        def of_batch(parameters: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
            return loss(self._output(settings, parameters, inputs, targets), targets)

        return of_batch

    def _masked(self, settings: TrainingSection) -> Callable[..., Tensor]:
        loss = _LOSSES[settings.loss]

        def of_batch(parameters: Mapping[str, Tensor], inputs: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
            each = loss(self._output(settings, parameters, inputs, targets), targets, reduction="none")
            means = each.flatten(1).mean(1) if each.ndim > 1 else each
            return (means * mask).sum() / mask.sum().clamp(min=1)

        return of_batch

    def _output(
        self, settings: TrainingSection, parameters: Mapping[str, Tensor], inputs: Tensor, targets: Tensor
    ) -> Tensor:
        output: Any = functional_call(self._model, dict(parameters), (inputs,))
        if settings.loss == "cross_entropy" and output.ndim != 2:
            raise RuntimeError(f"outputs of shape {tuple(output.shape)} are no rows of classes")
        if settings.loss != "cross_entropy" and output.shape != targets.shape:
            raise RuntimeError(f"outputs of shape {tuple(output.shape)} are not those of the targets")
        result: Tensor = output
        return result


def _clip(gradients: _Stacked, most: float) -> None:
    """Each device's gradient to a norm of at most ``most``, as ``clip_grad_norm_`` does it."""
    squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients.values()])
    factors = (most / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients.values():
        gradient.mul_(_along(factors, gradient))


def _move(
    parameters: _Stacked, gradients: _Stacked, momentum: _Stacked, rates: Tensor, settings: TrainingSection
) -> None:
    """One step of SGD, in place; a rate of 0 is that of a device that is done."""
    same = bool((rates == rates[0]).all())
    for name, parameter in parameters.items():
        gradient = gradients[name]
        if settings.weight_decay:
            gradient.add_(parameter, alpha=settings.weight_decay)
        if momentum:
            gradient = momentum[name].mul_(settings.momentum).add_(gradient)
        if same:
            parameter.add_(gradient, alpha=-float(rates[0]))
        else:
            parameter.sub_(gradient * _along(rates, gradient))


def _along(factors: Tensor, like: Tensor) -> Tensor:
    """One factor for each device, in a shape that multiplies ``like``."""
    return factors.reshape(-1, *[1] * (like.ndim - 1))


def _training(assignment: Assignment, plan: Plan, losses: npt.NDArray[np.float64], seconds: float) -> LocalTraining:
    counts = plan.counts.numpy()
    last = slice(max(0, len(counts) - plan.per_epoch), len(counts))
    loss = float(np.average(losses[last], weights=counts[last]))
    return LocalTraining(
        num_examples=assignment.examples.number,
        num_steps=len(counts),
        loss=loss,
        metrics={"loss": loss, "first_batch_loss": float(losses[0])},
        seconds=seconds,
        num_seen=int(counts.sum()),
    )
