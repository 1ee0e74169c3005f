"""Local training: what one task does with the base parameters and the device's private data."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import Dataset

from fl_core.errors import DataError, SpecError, TrainingStopped
from fl_core.spec import TrainingSection
from fl_core.training.batches import count_examples, floating_dtype, iterate, split_order
from fl_core.training.device import autocast, seeded
from fl_core.training.forward import apply
from fl_core.training.importance import GradientAverages
from fl_core.training.local_optimizer import LocalOptimizer
from fl_core.training.losses import resolve_loss
from fl_core.training.methods.distill import Teacher
from fl_core.training.schedule import step_factor


@dataclass(frozen=True, slots=True)
class LocalTraining:
    """What local training reports beside the parameters, which are in the model.

    Attributes:
        num_examples: size of the device's dataset, not the number of examples seen.
        num_steps: optimizer steps taken.
        loss: mean training loss over the last epoch (the last epoch's worth of steps, or all where fewer were taken),
            without the proximal term. Each batch's loss is taken before its step. It may be infinite or NaN.
        metrics: ``loss``, and ``first_batch_loss``, the base version's loss on the first batch.
        seconds: wall-clock time of training.
        num_seen: examples that the steps went through.
        importance: by parameter name, what ``importance`` asked for; empty where it did not.
    """

    num_examples: int
    num_steps: int
    loss: float
    metrics: dict[str, float]
    seconds: float
    num_seen: int = 0
    importance: dict[str, Tensor] = field(default_factory=dict)


def train_locally(
    model: nn.Module,
    dataset: Dataset[Any],
    settings: TrainingSection,
    *,
    seed: int,
    should_stop: Callable[[], bool] | None = None,
    device: torch.device,
    importance: Literal["", "gradient", "fisher"] = "",
    emulate_example_seconds: float = 0.0,
) -> LocalTraining:
    """Train ``model`` in place, from the parameters it has, which are the base version's.

    With ``settings.proximal_weight`` μ > 0 the device minimises f(w) + μ/2 ‖w - w_base‖² over the trainable parameters:
    FedProx (Li et al., MLSys 2020, arXiv 1812.06127, eq. 2) and FedAsync's regulariser (Xie et al. 2019, arXiv
    1903.03934). Its gradient μ (w - w_base) is added to the loss's. The gradient is clipped after that, so that
    ``max_gradient_norm`` bounds what the optimizer sees.

    The order of the examples is drawn anew for each epoch. The last batch of an epoch may be smaller; in a model with
    batch normalisation a last batch of one example joins the one before, as statistics of one example do not exist.
    ``local_steps`` goes on into further epochs as often as needed. Optimizer state starts from nothing in each task.

    With ``settings.distillation_weight`` λ > 0 the base version, held fixed, teaches beside the labels: λ T² KL(p_base
    ‖ p) of the outputs softened at ``distillation_temperature`` T (``fl_core/training/methods/distill.py``). The
    learning rate follows ``settings.local_schedule``; the schedule over versions is the caller's.

    A loss that is not finite does not end training: the update says so itself, and the coordinator rejects it.

    Args:
        model: moved to ``device``, set to training mode, and left so.
        dataset: map-style; pairs (input, target), see ``fl_core/training/batches.py``.
        settings: the task's.
        seed: of the order and of the model's own draws (dropout): the same seed on the same machine gives the same
            parameters. torch's global generator is left as it was. 0 <= seed < 2**63.
        should_stop: asked before each step.
        device: where to train.
        importance: what to average over the steps, for a codec that sends the most important elements: |gradient|, or
            its square, which estimates the Fisher information's diagonal. Nothing when empty.
        emulate_example_seconds: sleep that long per example, to play a slow device in a trial.

    Raises:
        TrainingStopped: ``should_stop()`` was true; the model is then somewhere between.
        DataError: the dataset is empty, not map-style, or its examples are not pairs.
        SpecError: the loss is unknown or returns no scalar, or batches of one meet batch normalisation.
    """
    started = time.perf_counter()
    num_examples = count_examples(dataset)
    loss_function = resolve_loss(settings.loss)
    has_batch_norm = any(isinstance(module, _BatchNorm) for module in model.modules())
    if has_batch_norm:
        _verify_batch_norm(num_examples, settings.batch_size)
    model.to(device).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    base = [parameter.detach().clone() for parameter in parameters] if settings.proximal_weight else None
    optimizer = LocalOptimizer(parameters, settings)
    teacher = Teacher(model, settings) if settings.distillation_weight else None
    averages = GradientAverages(model, importance) if importance else None

    generator = torch.Generator().manual_seed(seed)

    def epoch() -> list[Tensor]:
        order = torch.randperm(num_examples, generator=generator)
        return split_order(order, settings.batch_size, join_single=has_batch_norm)

    def endless() -> Iterator[tuple[Any, Tensor]]:
        batches = first_epoch
        while True:
            yield from iterate(dataset, batches, device, floating_dtype(model))
            batches = epoch()

    first_epoch = epoch()
    num_steps = settings.local_steps or settings.epochs * len(first_epoch)
    losses: deque[tuple[Tensor, int]] = deque(maxlen=len(first_epoch))
    first_loss: Tensor | None = None
    num_seen = 0
    with seeded(seed, device, *{parameter.device for parameter in parameters}):
        for step, (inputs, target) in enumerate(islice(endless(), num_steps)):
            if should_stop is not None and should_stop():
                raise TrainingStopped("Local training was stopped before its end; the task's work is dropped.")
            with autocast(device, settings.precision):
                output = apply(model, inputs)
                loss = _scalar(loss_function(output, target), settings.loss)
                whole = loss if teacher is None else loss + teacher.loss(inputs, output)
            whole.backward()  # type: ignore[no-untyped-call]
            if averages is not None:
                averages.add()
            if base is not None:
                _add_proximal_gradient(parameters, base, settings.proximal_weight)
            if settings.max_gradient_norm is not None:
                clip_grad_norm_(parameters, settings.max_gradient_norm)
            optimizer.step(step_factor(settings, step, num_steps))
            num_seen += _batch_size(target)
            if emulate_example_seconds:
                time.sleep(emulate_example_seconds * _batch_size(target))
            # Kept as tensors: reading a number would wait for the accelerator at every step.
            losses.append((loss.detach(), _batch_size(target)))
            first_loss = losses[0][0] if first_loss is None else first_loss
    mean_loss = _weighted_mean(losses)
    return LocalTraining(
        num_examples=num_examples,
        num_steps=num_steps,
        loss=mean_loss,
        metrics={"loss": mean_loss, **({} if first_loss is None else {"first_batch_loss": float(first_loss)})},
        seconds=time.perf_counter() - started,
        num_seen=num_seen,
        importance={} if averages is None else averages.means(),
    )


@torch.no_grad()
def _add_proximal_gradient(parameters: Sequence[Tensor], base: Sequence[Tensor], weight: float) -> None:
    """Add μ (w - w_base) to the gradients, in place. Where there is no gradient, w has not moved: nothing to add."""
    for parameter, start in zip(parameters, base, strict=True):
        if parameter.grad is not None:
            parameter.grad.add_(parameter - start, alpha=weight)


def _verify_batch_norm(num_examples: int, batch_size: int) -> None:
    if batch_size == 1:
        raise SpecError("training.batch_size = 1 cannot train a model with batch normalisation; use 2 or more.")
    if num_examples == 1:
        raise DataError("The dataset holds 1 example, and batch normalisation needs 2; give this device more data.")


def _scalar(loss: Any, name: str) -> Tensor:
    if not isinstance(loss, Tensor) or loss.ndim != 0:
        kind = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise SpecError(f"training.loss = {name!r} returned {kind}; return a scalar tensor, such as the batch's mean.")
    return loss


def _batch_size(target: Tensor) -> int:
    return target.shape[0] if target.ndim else 1


def _weighted_mean(losses: deque[tuple[Tensor, int]]) -> float:
    """The mean over examples of the batches' mean losses, in float64."""
    values = torch.stack([loss for loss, _ in losses]).double().cpu()
    sizes = torch.tensor([size for _, size in losses], dtype=torch.float64)
    return float((values * sizes).sum() / sizes.sum())
