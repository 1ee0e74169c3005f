"""FedAtt: layer by layer, updates get attention by how far they have moved that layer.

Ji, Pan, Long, Li, Jiang and Huang, "Learning Private Neural Language Modeling with Attentive Aggregation", IJCNN 2019,
arXiv 1812.07108, equations 2 to 4, without the noise.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import numpy as np
from pydantic import Field

from fl_core.aggregation.buffered import BufferedStrategy, buffer_settings
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.optimizer.rules import SGD, ServerRule
from fl_core.aggregation.softmax_buffer import SoftmaxBuffer
from fl_core.aggregation.staleness import StalenessWeight, polynomial
from fl_core.aggregation.strategy import Merge
from fl_core.spec import CampaignSpec, Section, parse_section, read_args
from fl_core.vectors import Delta, Parameters, Vector, read_all
from fl_core.vectors.arithmetic import Segments, norms_by_segment
from fl_core.vectors.layout import Layout


class FedAttArgs(Section):
    """``[aggregation.args]``: the temperature of the softmax, 1 in the paper, and the norm of a matrix."""

    temperature: float = Field(default=1.0, gt=0)
    norm: Literal["frobenius", "spectral"] = "frobenius"


class FedAtt(BufferedStrategy):
    """x_l <- x_l + ε Σ_i α_il s(τ_i) Δ_il with α_l = softmax over i of ‖Δ_il‖ / T, for every tensor l of the layout.

    The paper's step size ε is ``server_optimizer.learning_rate``. The paper is synchronous: its distance between the
    global and a local layer is the length of the delta, since both start from the same version. Here Δ_i is measured
    against its own base version, so what the model has done meanwhile is no part of the distance, and the staleness
    weight s(τ_i) shortens an old update. Fresh updates make the paper's step.

    The paper writes the distance as ‖·‖_p, and p is 2 in its authors' program (github.com/shaoxiongji/fed-att). Of a
    matrix, ``frobenius`` is the 2-norm of its elements, as of any other tensor, and ``spectral`` its largest singular
    value: that is what the program computes, by ``scipy.linalg.norm`` with ``ord=2``. The program fails on tensors of
    more than two dimensions; here these are matrices of their first dimension by all others.

    The softmax gives most attention to the device that has moved furthest, as published. That is a weakness where
    devices may be hostile: set ``aggregation.max_update_norm``, or use the strategy ``robust``.

    Args:
        layout, initial: as of ``Strategy``.
        buffer_size: K.
        staleness: s(τ).
        optimizer: how the parameters follow the mean.
        temperature: T.
        norm: of a matrix.

    Raises:
        SpecError: a setting lies outside of its range.
    """

    name = "fedatt"
    _buffer: SoftmaxBuffer

    def __init__(
        self,
        layout: Layout,
        initial: Parameters,
        *,
        buffer_size: int = 10,
        staleness: StalenessWeight = polynomial(0.5),
        optimizer: ServerRule = SGD(1.0),
        temperature: float = 1.0,
        norm: Literal["frobenius", "spectral"] = "frobenius",
    ) -> None:
        args = parse_section(FedAttArgs, {"temperature": temperature, "norm": norm}, "FedAtt")
        buffer = SoftmaxBuffer(layout.num_elements, layout.slices, args.temperature)
        super().__init__(layout, initial, buffer, buffer_size=buffer_size, optimizer=optimizer)
        self._segments = Segments(layout.slices, layout.num_elements)
        self._spectral = args.norm == "spectral"
        if self._spectral:
            self.held_vectors = 2
        self._staleness_weight = staleness

    @classmethod
    def from_spec(cls, spec: CampaignSpec, layout: Layout, initial: Parameters) -> Self:
        """With what the spec says of buffer, staleness, optimizer and the softmax."""
        return cls(
            layout,
            initial,
            **buffer_settings(spec),
            **dict(read_args(spec, FedAttArgs)),
        )

    def offer(self, contribution: Contribution) -> Merge | None:
        """Add Δ_i, each tensor with its own score; the K-th merges.

        Raises:
            InvariantError: the contribution is not a delta.
        """
        delta = contribution.delta
        self._buffer.add(
            delta,
            spectral_norms(delta.vector, self.layout)
            if self._spectral
            else norms_by_segment(delta.vector, self._segments),
            factor=self._staleness_weight(contribution.staleness),
            staleness=contribution.staleness,
        )
        return self._merge_if_full()

    def mean(self, share: float) -> Delta:
        return self._buffer.mean(self._buffer.count / self._buffer_size)


def spectral_norms(values: Vector, layout: Layout) -> list[float]:
    """Of each tensor the largest singular value, or the 2-norm where it has fewer than two dimensions.

    It takes the smaller Gram matrix's largest eigenvalue, in float64 and on torch's one thread. The result is rounded
    to float32: a last bit that depends on the processor should not decide a merge.

    >>> from fl_core.vectors.tensor_spec import TensorSpec
    >>> layout = Layout((TensorSpec("w", (2, 2)), TensorSpec("b", (2,))))
    >>> spectral_norms(np.array([3, 0, 0, -2, 3, 4], np.float32), layout)
    [3.0, 5.0]
    """
    import torch

    flat = read_all(values)
    norms = []
    for tensor, where in zip(layout.tensors, layout.slices, strict=True):
        rows = tensor.shape[0] if len(tensor.shape) > 1 and tensor.num_elements else 1
        matrix = torch.from_numpy(flat[where].reshape(rows, -1)).double()
        gram = matrix @ matrix.T if rows <= matrix.shape[1] else matrix.T @ matrix
        largest = float(torch.linalg.eigvalsh(gram)[-1]) if len(gram) > 1 else float(gram.sum())
        norms.append(float(np.float32(math.sqrt(max(0.0, largest)))))
    return norms
