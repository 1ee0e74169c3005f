"""Local training: one task's steps from the base parameters on the device's private data."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import structlog
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import Dataset

from fl_core.errors import DataError, TrainingStopped
from fl_core.spec import TrainingSection
from fl_core.training.batches import count_examples, floating_dtype, iterate, known_targets, split_order
from fl_core.training.device import autocast, seeded
from fl_core.training.forward import apply
from fl_core.training.importance import GradientAverages
from fl_core.training.local_optimizer import LocalOptimizer
from fl_core.training.losses import Loss, mean_of
from fl_core.training.methods.distill import Teacher
from fl_core.training.schedule import step_factor

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LocalTraining:
    """What local training reports beside the parameters, which are in the model.

    Attributes:
        num_examples: size of the device's dataset, not the number of examples seen. Where targets do not all count, so
            many of it as of the examples seen had one that does.
        num_steps: optimizer steps taken.
        loss: mean training loss over the last epoch (the last epoch's worth of steps, or all where fewer were taken),
            without the proximal term, over what ``fl_core/training/losses.py`` says. Each batch's loss is taken before
            its step. It may be infinite or NaN.
        metrics: ``loss``; ``first_batch_loss``, the base version's loss on the first batch; and where there were any,
            ``unlabelled_batches``, which took no step.
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

    The order of the examples is drawn again for each epoch. The last batch of an epoch may be smaller; in a model that
    trains with batch normalisation a last batch of one example joins the one before, as over vectors statistics of one
    example do not exist. Batches of one image or volume are as good as any.
    ``local_steps`` goes on into further epochs as often as needed. Optimizer state starts from nothing in each task.

    With ``settings.distillation_weight`` λ > 0 the base version, held fixed, teaches beside the labels: λ T² KL(p_base
    ‖ p) of the outputs softened at ``distillation_temperature`` T (``fl_core/training/methods/distill.py``). The
    learning rate follows ``settings.local_schedule``; the schedule over versions is the caller's.

    A loss that is not finite does not end training: the update itself shows it, and the coordinator rejects it. A batch
    in which no target counts has no loss: it takes no step.

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
        DataError: the dataset is empty, not map-style, or its examples are not pairs; no target counts; or batch
            normalisation meets one value per channel.
        SpecError: the loss is unknown or returns no scalar.
    """
    started = time.perf_counter()
    num_examples = count_examples(dataset)
    loss_function = Loss(settings)
    labels = _Labels(loss_function, dataset, settings)
    model.to(device).train()
    # Statistics that its author has frozen, in ``train``, need no batch at all.
    normalises = any(isinstance(module, _BatchNorm) and module.training for module in model.modules())
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    base = [parameter.detach().clone() for parameter in parameters] if settings.proximal_weight else None
    optimizer = LocalOptimizer(parameters, settings)
    teacher = Teacher(model, settings) if settings.distillation_weight else None
    averages = GradientAverages(model, importance) if importance else None

    generator = torch.Generator().manual_seed(seed)

    def epoch() -> list[Tensor]:
        order = torch.randperm(num_examples, generator=generator)
        return split_order(order, settings.batch_size, join_single=normalises)

    def endless() -> Iterator[tuple[Any, Tensor]]:
        batches = first_epoch
        while True:
            yield from iterate(dataset, batches, device, floating_dtype(model))
            batches = epoch()

    first_epoch = epoch()
    num_steps = settings.local_steps or settings.epochs * len(first_epoch)
    losses: deque[tuple[Tensor, Tensor | float]] = deque(maxlen=len(first_epoch))
    first_loss: Tensor | None = None
    num_seen = num_taken = 0
    with seeded(seed, device, *{parameter.device for parameter in parameters}):
        for step, (inputs, target) in enumerate(islice(endless(), num_steps)):
            if should_stop is not None and should_stop():
                raise TrainingStopped("Local training was stopped before its end; the task's work is dropped.")
            if labels.skip(target):
                continue
            with autocast(device, settings.precision):
                output = apply(model, inputs)
                loss, weight = loss_function(output, target)
                if labels.skip_loss(weight):
                    continue
                whole = loss if teacher is None else loss + teacher.loss(inputs, output, target)
            whole.backward()  # type: ignore[no-untyped-call]
            _make_dense(parameters)
            if averages is not None:
                averages.add()
            if base is not None:
                _add_proximal_gradient(parameters, base, settings.proximal_weight)
            if settings.max_gradient_norm is not None:
                clip_grad_norm_(parameters, settings.max_gradient_norm)
            optimizer.step(step_factor(settings, step, num_steps))
            num_taken += 1
            num_seen += _batch_size(target)
            if emulate_example_seconds:
                time.sleep(emulate_example_seconds * _batch_size(target))
            # Kept as tensors: reading a number would wait for the accelerator at every step.
            losses.append((loss.detach(), weight))
            first_loss = losses[0][0] if first_loss is None else first_loss
    mean_loss = mean_of(list(losses))
    if mean_loss is None or first_loss is None:
        raise DataError(
            f"None of the targets that this task drew counts (all are {labels.mark}), of a dataset of {num_examples} "
            "examples; give this device labelled data or take it out of the fleet."
        )
    return LocalTraining(
        num_examples=labels.count(num_examples),
        num_steps=num_taken,
        loss=mean_loss,
        metrics={"loss": mean_loss, "first_batch_loss": float(first_loss), **labels.report()},
        seconds=time.perf_counter() - started,
        num_seen=num_seen,
        importance={} if averages is None else averages.means(),
    )


def _make_dense(parameters: Sequence[Tensor]) -> None:
    """Give sparse gradients, of ``F.embedding(..., sparse=True)``, the form that everything after them takes."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.to_dense()


@torch.no_grad()
def _add_proximal_gradient(parameters: Sequence[Tensor], base: Sequence[Tensor], weight: float) -> None:
    """Add μ (w - w_base) to the gradients, in place. Where there is no gradient, w has not moved: nothing to add."""
    for parameter, start in zip(parameters, base, strict=True):
        if parameter.grad is not None:
            parameter.grad.add_(parameter - start, alpha=weight)


def _batch_size(target: Tensor) -> int:
    return target.shape[0] if target.ndim else 1


class _Labels:
    """Which batches have nothing to learn from, and how many examples have.

    Where the dataset's targets are tensors that all count, no batch is looked at: that would wait for the accelerator.
    """

    def __init__(self, loss: Loss, dataset: Dataset[Any], settings: TrainingSection) -> None:
        self._loss = loss
        known = known_targets(dataset)
        self._looks = known is None or not _all_count(loss, known)
        self._looks_at_loss = loss.is_own or 0.0 in (settings.class_weights or ())
        self._seen = self._labelled = self._skipped = 0
        self.mark = -100 if settings.ignore_index is None else settings.ignore_index

    def skip(self, target: Tensor) -> bool:
        """Whether no target of this batch counts."""
        if not self._looks or (labelled := self._loss.labelled(target)) is None:
            return False
        num = int(labelled.sum())
        self._seen += len(labelled)
        self._labelled += num
        self._skipped += not num
        return not num

    def skip_loss(self, weight: Tensor | float) -> bool:
        """Whether this batch's loss is the mean over nothing."""
        if not self._looks_at_loss or float(weight) > 0:
            return False
        self._skipped += 1
        return True

    def count(self, num_examples: int) -> int:
        """How many of the dataset's examples have a target that counts, as far as has been seen."""
        return max(1, round(num_examples * self._labelled / self._seen)) if self._seen else num_examples

    def report(self) -> dict[str, float]:
        """The metrics that say how many batches took no step; empty if none."""
        if not self._skipped:
            return {}
        log.warning("batches without a target that counts took no step", batches=self._skipped, mark=self.mark)
        return {"unlabelled_batches": float(self._skipped)}


def _all_count(loss: Loss, target: Tensor) -> bool:
    ignored = loss.ignored(target)
    return ignored is None or not bool((target == ignored).any())
