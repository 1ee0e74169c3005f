"""The strategy ``distillation``: soft labels of unequal models become a student, without a barrier.

Lin et al., "Ensemble Distillation for Robust Model Fusion in Federated Learning", NeurIPS 2020, arXiv 2006.07242, with
the teachers' predictions instead of the teachers, and with staleness weights, as nobody waits for anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from fl_core.aggregation.buffer import Buffer
from fl_core.aggregation.buffered import restore_vector, verify_strategy, with_prefix
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.staleness import staleness_weight
from fl_core.aggregation.strategy import Merge, Tensors, verify_no_args
from fl_core.errors import CampaignError, DataError, SpecError
from fl_core.models.build import build_model
from fl_core.spec import CampaignSpec, ServerOptimizerSection, TrainingSection
from fl_core.training.batches import count_examples, floating_dtype, iterate, split_order
from fl_core.training.device import seeded
from fl_core.training.forward import apply
from fl_core.training.local_optimizer import LocalOptimizer
from fl_core.training.method import read_method_args
from fl_core.training.methods.distill import soft_cross_entropy
from fl_core.training.methods.soft_labels import DistillationArgs, as_distributions, predict
from fl_core.user_code import running
from fl_core.vectors import Delta, FloatArray, Parameters
from fl_core.vectors.layout import Layout

_CPU = torch.device("cpu")


class StudentDistillation:
    """P <- m P + (1 - m) Σ w_i p_i / Σ w_i over a buffer of K, w_i = s(τ_i) n_i; then the student learns P.

    m is ``memory`` (0 while nothing is kept): what a slow device said is not forgotten when the next K come from fast
    ones. The student, which is the campaign's model and the version that devices fetch, takes ``student_epochs`` passes
    of Adam over the public set at T² KL(P ‖ student), in an order that the campaign's seed and the version draw.

    This is the one strategy that trains on the coordinator: a merge takes that long, and the same bits come out again
    only on the same kind of machine.

    Raises:
        SpecError: the method is another one, the student has other classes, or ``[server_optimizer]`` is set.
    """

    sends: Literal["soft_labels"] = "soft_labels"
    barrier = False
    trains_whole_model = True

    def __init__(self, spec: CampaignSpec, layout: Layout, initial: Parameters) -> None:
        verify_no_args(spec)
        if spec.training.method != "distillation":
            raise SpecError(
                f"aggregation.strategy = 'distillation' merges soft labels, and training.method = "
                f"{spec.training.method!r} sends none; set training.method = 'distillation'."
            )
        if spec.server_optimizer != ServerOptimizerSection():
            raise SpecError("[server_optimizer] is set, and distillation has none; set student_learning_rate instead.")
        self._args = read_method_args(spec.training, DistillationArgs)
        self._layout = layout
        self._seed = spec.campaign.seed
        self._buffer_size = spec.aggregation.buffer_size
        self._staleness_weight = staleness_weight(spec.aggregation)
        self._factory = spec.model.factory
        self._model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
        try:
            self._public = self._args.public_set()
            with running("model.factory", self._factory, "the student's forward pass"):
                predict(self._model, self._public, _CPU, self._args.num_classes, 1.0)
        except DataError as error:
            raise SpecError(f"model.factory = {spec.model.factory!r} cannot be the student: {error}") from error
        size = count_examples(self._public) * self._args.num_classes
        self._buffer = Buffer(size)
        self._labels: FloatArray = np.zeros(size, np.float32)
        self.parameters = initial
        self.version = 0

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
        self._layout.load_into(model, self.parameters)
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
        np.copyto(self.parameters.values, self._layout.flatten(model).values)

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
        restore_vector(self.parameters.values, tensors, "parameters")
        labels = tensors.get("labels")
        if labels is None or labels.shape != self._labels.shape:
            raise CampaignError(
                f"The checkpoint's soft labels do not fit a public set of {self._labels.size} probabilities; "
                "resume with the spec and the data that wrote it."
            )
        np.copyto(self._labels, labels)
        self._buffer.restore_state(with_prefix(tensors, "buffer."), meta["buffer"])
        self.version = int(meta["version"])
