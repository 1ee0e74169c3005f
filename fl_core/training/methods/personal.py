"""The method ``personal``: meta federated learning with a personal model that never leaves the device.

Each device i keeps θ_i. In a task it

1. takes the fleet's progress over: θ_i <- θ_i + γ (θ_g - θ_g'), where θ_g' is the version that it saw last. The
   difference is minus what the coordinator aggregated meanwhile, u_g, so this is θ_i - γ u_g. Then it lets itself be
   pulled towards the global model: θ_i <- θ_i + κ (θ_g - θ_i);
2. trains θ_i on its training examples, and takes Δθ_i = θ_i - θ_g;
3. minimises L(θ_i - α u_i; D_val) over the meta-updater u_i by gradient descent from u_i = -Δθ_i, with the gradient
   -α ∇L(θ_i - α u_i). The first-order variant takes the gradient at θ_i in every step, which is the first term of the
   expansion of L in α;
4. sends -u_i as its delta, so that every strategy that merges deltas moves θ_g by -η u_g.

Without step 3 and with ``keep = false`` it sends Δθ_i from the base version: Reptile (Nichol et al. 2018, arXiv
1803.02999). A personal model that shares only what a fleet has in common: Fallah, Mokhtari and Ozdaglar, NeurIPS 2020,
arXiv 2002.07948; keeping it beside the global one: Dinh, Tran and Nguyen, "pFedMe", NeurIPS 2020, arXiv 2006.08848.

γ must be below 1: with 1 and without a pull each personal model would follow the global one at the same distance, and
the global model would follow that distance for ever. Without the pull the personal models drift so far apart that their
mean is a poor model (the table in ``docs/methods.md``); with κ = 1 every task starts from the base version.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from pydantic import Field
from torch.utils.data import Dataset

from fl_core.metrics.evaluation import evaluate
from fl_core.spec import Section, TrainingSection, parse_section
from fl_core.training.batches import count_examples, floating_dtype, iterate, split_order
from fl_core.training.forward import apply
from fl_core.training.holdout import split_private
from fl_core.training.losses import Loss
from fl_core.training.method import DeviceTask, Method, Outcome, read_method_args
from fl_core.vectors import FloatArray, Parameters


class PersonalArgs(Section):
    """``[training.method_args]`` of ``personal``.

    Attributes:
        keep: keep θ_i from task to task; otherwise each task starts from the base version.
        personal_rate: γ.
        pull: κ.
        meta_steps: gradient steps on u_i; 0 sends Δθ_i itself.
        meta_rate: α, how far the updater reaches.
        meta_learning_rate: of those steps.
        first_order: take every gradient at θ_i.
        validation_fraction, test_fraction: shares of the private data for D_val, and for the reported accuracies.
    """

    keep: bool = True
    personal_rate: float = Field(default=0.9, ge=0, lt=1)
    pull: float = Field(default=0.25, ge=0, le=1)
    meta_steps: int = Field(default=1, ge=0, le=1000)
    meta_rate: float = Field(default=1.0, gt=0)
    meta_learning_rate: float = Field(default=0.05, gt=0)
    first_order: bool = True
    validation_fraction: float = Field(default=0.2, gt=0, lt=0.5)
    test_fraction: float = Field(default=0.2, gt=0, lt=0.5)


class Personal(Method):
    """Sends minus the meta-updater; reports ``personal_accuracy`` and ``global_accuracy`` on the device's test part.

    Args:
        keep, personal_rate, pull, meta_steps, meta_rate, meta_learning_rate, first_order, validation_fraction,
            test_fraction: as of ``PersonalArgs``.

    Raises:
        SpecError: a setting lies outside of its range.
    """

    def __init__(
        self,
        *,
        keep: bool = True,
        personal_rate: float = 0.9,
        pull: float = 0.25,
        meta_steps: int = 1,
        meta_rate: float = 1.0,
        meta_learning_rate: float = 0.05,
        first_order: bool = True,
        validation_fraction: float = 0.2,
        test_fraction: float = 0.2,
    ) -> None:
        settings = {
            "keep": keep, "personal_rate": personal_rate, "pull": pull, "meta_steps": meta_steps,
            "meta_rate": meta_rate, "meta_learning_rate": meta_learning_rate, "first_order": first_order,
            "validation_fraction": validation_fraction, "test_fraction": test_fraction,
        }  # fmt: skip
        self._args = parse_section(PersonalArgs, settings, "Personal")

    @classmethod
    def from_settings(cls, settings: TrainingSection) -> Self:
        """With ``training.method_args``."""
        return cls(**dict(read_method_args(settings, PersonalArgs)))

    def train(self, task: DeviceTask) -> Outcome:
        """One task: personalise, train, find the meta-updater."""
        args, layout, model = self._args, task.layout, task.model
        training, validation, test = split_private(
            task.dataset, task.worker, args.validation_fraction, args.test_fraction
        )
        metrics = scores_on(task, test, "global")
        layout.load_into(model, Parameters(self._personalise(task)))
        done = task.train(dataset=training)
        personal = layout.flatten(model).values
        metrics |= scores_on(task, test, "personal")
        updater = self._meta_update(task, personal, validation)[layout.trainable]
        if args.keep:
            task.memory["personal"] = personal
            task.memory["base"] = task.base.values
        return Outcome(
            values=np.negative(updater, out=updater),
            training=done,
            metrics=metrics,
            state=personal[layout.state].copy(),
        )

    def _personalise(self, task: DeviceTask) -> FloatArray:
        """Step 1."""
        personal, seen = task.memory.get("personal"), task.memory.get("base")
        base, args = task.base.values, self._args
        if not args.keep or personal is None or seen is None or personal.shape != base.shape:
            return base
        moved = personal + np.float32(args.personal_rate) * (base - seen)
        moved += np.float32(args.pull) * (base - moved)
        # Its own statistics go with its own weights; they are no direction in which the fleet has moved.
        beside = task.layout.num_parameters
        moved[beside:] = base[beside:]
        moved[task.layout.state] = personal[task.layout.state]
        return moved

    def _meta_update(self, task: DeviceTask, personal: FloatArray, validation: Dataset[Any]) -> FloatArray:
        """Step 3: u_i."""
        args = self._args
        updater = task.base.values - personal
        for _ in range(args.meta_steps):
            point = personal if args.first_order else personal - np.float32(args.meta_rate) * updater
            gradient = _gradient(task, point, validation)
            updater[task.layout.trainable] += np.float32(args.meta_learning_rate * args.meta_rate) * gradient
        return updater


def scores_on(task: DeviceTask, dataset: Dataset[Any], name: str) -> dict[str, float]:
    """Loss, and accuracy where targets are classes, of the model as it is now: ``NAME_loss``, ``NAME_accuracy``.

    What is absent, as where none of these examples has a label, is left out.
    """
    scores = evaluate(task.model, dataset, task.settings, 1024, task.device)
    found = {f"{name}_loss": scores.loss, f"{name}_accuracy": scores.accuracy}
    return {name: value for name, value in found.items() if value is not None}


def _gradient(task: DeviceTask, at: FloatArray, dataset: Dataset[Any]) -> FloatArray:
    """∇L over a whole dataset at some parameters: float32 ``(num_parameters,)``. The model is left there."""
    model, settings = task.model, task.settings
    task.layout.load_into(model, Parameters(at))
    model.eval()  # running statistics are those of the parameters that were trained
    loss_function, total = Loss(settings), 0.0
    batches = split_order(torch.arange(count_examples(dataset)), settings.batch_size)
    for inputs, target in iterate(dataset, batches, task.device, floating_dtype(model)):
        mean, weight = loss_function(apply(model, inputs), target)
        if (share := float(weight)) > 0:
            (mean * share).backward()  # type: ignore[no-untyped-call]
            total += share
    named = dict(model.named_parameters())
    flat: FloatArray = np.zeros(task.layout.num_parameters, np.float32)
    for spec, where in zip(task.layout.tensors, task.layout.slices, strict=True):
        if spec.trainable and (gradient := named[spec.name].grad) is not None:
            flat[where] = gradient.detach().float().cpu().numpy().reshape(-1) / np.float32(total or 1.0)
    for parameter in model.parameters():
        parameter.grad = None
    return flat
