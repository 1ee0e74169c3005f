"""Error feedback: what a codec left out of one update is added to the next.

Seide et al., "1-Bit Stochastic Gradient Descent", Interspeech 2014; with top-k, Stich et al., "Sparsified SGD with
Memory", NeurIPS 2018, arXiv 1809.07599, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

from fl_core.vectors import BLOCK, FloatArray, Vector, read_into


class _Encoder(Protocol):
    def encode(self, values: FloatArray, seed: int) -> memoryview | bytes: ...

    def decode(self, payload: memoryview | bytes, num_elements: int) -> Vector: ...


@runtime_checkable
class _Ranking(Protocol):
    def encode_ranked(self, values: FloatArray, scores: FloatArray) -> memoryview | bytes: ...


class ErrorFeedback:
    """The residual e of one campaign on one device: it sends C(Δ + e) and keeps e <- Δ + e - C(Δ + e).

    The sum of all that was sent is thereby the sum of all deltas less the present residual. An update that the
    coordinator refuses takes its part of the sum with it, and a device that is killed begins without a residual: both
    lose the work of a few updates and do no other harm. One that is stopped keeps it
    (``workers/store/residuals.py``).

    >>> from fl_core.codecs.topk import TopK
    >>> from fl_core.vectors import read_all
    >>> feedback, sent = ErrorFeedback(), np.zeros(2, np.float32)
    >>> for _ in range(4):
    ...     payload = feedback.encode(TopK(fraction=0.5), np.array([3.0, 1.0], np.float32), seed=0)
    ...     sent += read_all(TopK(fraction=0.5).decode(payload, 2))
    >>> sent.tolist(), feedback.residual.tolist()
    ([9.0, 4.0], [3.0, 0.0])
    """

    def __init__(self) -> None:
        self.residual: FloatArray | None = None

    def encode(
        self,
        codec: _Encoder,
        values: FloatArray,
        seed: int,
        score: Callable[[FloatArray], FloatArray] | None = None,
    ) -> memoryview | bytes:
        """Encode a delta with the residual added.

        Args:
            codec: whose payloads do not lend the vector's memory.
            values: float32 ``(num_elements,)``, the delta; it becomes the next residual, so it is the caller's no more.
            seed: the codec's.
            score: ranks the elements, residual included, for a codec that chooses among them.
        """
        if self.residual is not None and self.residual.shape == values.shape:
            np.add(values, self.residual, out=values)
        if score is not None and isinstance(codec, _Ranking):
            payload: memoryview | bytes = codec.encode_ranked(values, score(values))
        else:
            payload = codec.encode(values, seed)
        sent = codec.decode(payload, values.size)
        scratch = np.empty(min(BLOCK, values.size), np.float32)
        finite = True
        with np.errstate(all="ignore"):
            for start in range(0, values.size, BLOCK):
                part = values[start : start + BLOCK]
                block = scratch[: part.size]
                read_into(block, sent, start)
                np.subtract(part, block, out=part)
                finite = finite and bool(np.isfinite(part).all())
        # A training that diverged once must not spoil every later update.
        self.residual = values if finite else None
        return payload
