"""The strategy ``distillation``: soft labels of unequal models become a student, without a barrier.

Lin et al., "Ensemble Distillation for Robust Model Fusion in Federated Learning", NeurIPS 2020, arXiv 2006.07242, with
the teachers' predictions instead of the teachers, and with staleness weights, as nobody waits for anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fl_core.aggregation.buffer import Buffer
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.staleness import StalenessWeight, polynomial, staleness_weight
from fl_core.aggregation.strategy import Merge, Strategy, Tensors, at_least_one, verify_strategy, with_prefix
from fl_core.errors import CampaignError, DataError, SpecError
from fl_core.models.build import build_model
from fl_core.spec import CampaignSpec, TrainingSection, parse_section
from fl_core.training.batches import count_examples, floating_dtype, iterate, split_order
from fl_core.training.device import seeded
from fl_core.training.forward import apply
from fl_core.training.local_optimizer import LocalOptimizer
from fl_core.training.methods.distill import soft_cross_entropy
from fl_core.training.methods.soft_labels import DistillationArgs, as_distributions, predict
from fl_core.user_code import running
from fl_core.vectors import Delta, FloatArray, Parameters
from fl_core.vectors.layout import Layout

_CPU = torch.device("cpu")


class StudentDistillation(Strategy):
    """P <- m P + (1 - m) Σ w_i p_i / Σ w_i over a buffer of K, w_i = s(τ_i) n_i; then the student learns P.

    m is ``memory`` (0 while nothing is kept): what a slow device said is not forgotten when the next K come from fast
    ones. The student, which is the campaign's model and the version that devices fetch, takes ``student_epochs`` passes
    of Adam over the public set at T² KL(P ‖ student), in an order that the campaign's seed and the version draw.

    This is the one strategy that trains on the coordinator: a merge takes that long, and the same bits come out again
    only on the same kind of machine.

    Args:
        layout, initial: as of ``Strategy``.
        model: the student, of that layout; its parameters do not matter.
        settings: ``[training.method_args]`` of the method ``distillation``.
        buffer_size: K.
        staleness: s(τ).
        seed: of the order of the examples.
        factory: what a sentence about the student calls it.

    Raises:
        SpecError: the student has other classes than the settings say.
    """

    sends = "soft_labels"
    trains_whole_model = True

    def __init__(
        self,
        layout: Layout,
        initial: Parameters,
        *,
        model: nn.Module,
        settings: DistillationArgs,
        buffer_size: int = 10,
        staleness: StalenessWeight = polynomial(0.5),
        seed: int = 0,
        factory: str = "model",
    ) -> None:
        super().__init__(layout, initial)
        at_least_one(buffer_size=buffer_size)
        self._args = settings
        self._seed = seed
        self._buffer_size = buffer_size
        self._staleness_weight = staleness
        self._factory = factory
        self._model = model
        try:
            self._public = settings.public_set()
            with running("model.factory", factory, "the student's forward pass"):
                predict(model, self._public, _CPU, settings.num_classes, 1.0)
        except DataError as error:
            raise SpecError(f"model.factory = {factory!r} cannot be the student: {error}") from error
        size = count_examples(self._public) * settings.num_classes
        self._buffer = Buffer(size)
        self._labels: FloatArray = np.zeros(size, np.float32)

    @classmethod
    def from_spec(cls, spec: CampaignSpec, layout: Layout, initial: Parameters) -> Self:
        """With a model of the campaign's factory, and what its method's settings say of the student."""
        return cls(
            layout,
            initial,
            model=build_model(spec.model.factory, spec.model.args, spec.campaign.seed),
            settings=parse_section(DistillationArgs, dict(spec.training.method_args), "training.method_args"),
            buffer_size=spec.aggregation.buffer_size,
            staleness=staleness_weight(spec.aggregation),
            seed=spec.campaign.seed,
            factory=spec.model.factory,
        )

    def slow(self, factor: float) -> None:
        """Let the student learn at as much smaller a rate."""
        rate = self._args.student_learning_rate * factor
        self._args = self._args.model_copy(update={"student_learning_rate": rate})

    @property
    def buffer_count(self) -> int:
        """How many updates wait, below K."""
        return self._buffer.count

    def update_elements(self, part: int) -> int | None:
        """Soft labels of the whole public set; there are no parts."""
        return self._labels.size if part == 0 else None

    def offer(self, contribution: Contribution) -> Merge | None:
        """Take one device's soft labels in; the K-th merges.

        Raises:
            InvariantError: the contribution is none.
        """
        labels = contribution.soft_labels
        weight = self._staleness_weight(contribution.staleness) * contribution.num_examples
        word = as_distributions(labels.values, self._args.num_classes).reshape(-1)
        self._buffer.add(
            Delta(word), weight=weight, num_examples=contribution.num_examples,
            staleness=contribution.staleness,
        )  # fmt: skip
        return self.flush() if self._buffer.count >= self._buffer_size else None

    def flush(self, share: float = 1.0) -> Merge | None:
        """Merge what waits, however few; None when nothing does."""
        buffer = self._buffer
        if buffer.count == 0:
            return None
        keep = np.float32(self._args.memory if self._labels.any() else 0.0)
        mean = buffer.mean(sum(buffer.weights)).values
        np.multiply(self._labels, keep, out=self._labels)
        self._labels += (np.float32(1.0) - keep) * mean
        with running("model.factory", self._factory, "a training step of the student"):
            self._teach()
        self.version += 1
        merge = Merge(self.version, buffer.count, tuple(buffer.staleness), tuple(buffer.weights))
        buffer.clear()
        return merge

    def _teach(self) -> None:
        args, model = self._args, self._model
        matrix = torch.from_numpy(np.maximum(self._labels.reshape(-1, args.num_classes), 1e-8))
        wanted = (matrix / matrix.sum(dim=1, keepdim=True)).log()
        self.layout.load_into(model, self.parameters)
        model.train()
        rule = TrainingSection(optimizer="adam", learning_rate=args.student_learning_rate)
        optimizer = LocalOptimizer([p for p in model.parameters() if p.requires_grad], rule)
        seed = (self._seed * 1_000_003 + self.version) % 2**63
        generator = torch.Generator().manual_seed(seed)
        with seeded(seed, _CPU):
            for _ in range(args.student_epochs):
                order = torch.randperm(len(wanted), generator=generator)
                batches = split_order(order, args.student_batch_size, join_single=True)
                stream = iterate(self._public, batches, _CPU, floating_dtype(model))
                for indices, (inputs, _) in zip(batches, stream, strict=True):
                    loss = soft_cross_entropy(apply(model, inputs), wanted[indices], args.temperature)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
        np.copyto(self.parameters.values, self.layout.flatten(model).values)

    def export_state(self) -> tuple[Tensors, dict[str, Any]]:
        """All state; the arrays are views."""
        buffer_tensors, buffer_meta = self._buffer.export_state()
        tensors: Tensors = {"parameters": self.parameters.values, "labels": self._labels}
        tensors |= {f"buffer.{name}": array for name, array in buffer_tensors.items()}
        return tensors, {"strategy": "distillation", "version": self.version, "buffer": buffer_meta}

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the state is of another strategy, model or public set.
        """
        verify_strategy("distillation", meta)
        super().restore_state(tensors, meta)
        labels = tensors.get("labels")
        if labels is None or labels.shape != self._labels.shape:
            raise CampaignError(
                f"The checkpoint's soft labels do not fit a public set of {self._labels.size} probabilities; "
                "resume with the spec and the data that wrote it."
            )
        np.copyto(self._labels, labels)
        self._buffer.restore_state(with_prefix(tensors, "buffer."), meta["buffer"])
