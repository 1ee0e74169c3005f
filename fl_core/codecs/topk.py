"""topk: only the elements of largest magnitude, with their places.

Alone it is biased: what is small in every update would never arrive. The device therefore adds what it has left out to
its next update (``ErrorFeedback``).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fl_core.codecs.base import Codec
from fl_core.errors import InvariantError, Reason, RejectedUpdate
from fl_core.vectors import FloatArray

_MAX_ELEMENTS = 2**32 - 1
_SAMPLE_STRIDE = 61


class TopK(Codec):
    """The ⌈fraction · num_elements⌉ largest magnitudes, exact; everything else reads as 0.

    The payload holds k places (little-endian uint32, rising), then the k values (little-endian float32). Among equal
    magnitudes the first ones are taken, so the same vector gives the same bytes.

    Args:
        fraction: above 0, at most 1.
        importance: by what the device ranks the elements (``fl_core/training/importance.py``); the format is the same.

    >>> from fl_core.vectors import read_all
    >>> payload = TopK(fraction=0.5).encode(np.array([0.5, -3.0, 0.0, 1.0], np.float32), seed=0)
    >>> read_all(TopK(fraction=0.5).decode(payload, 4)).tolist()
    [0.0, -3.0, 0.0, 1.0]
    """

    name = "topk"
    needs_feedback = True

    def __init__(self, fraction: float = 0.01, importance: str = "magnitude") -> None:
        self._fraction = fraction
        self.importance = importance

    def encode(self, values: FloatArray, seed: int) -> memoryview:
        """Choose the largest magnitudes and write; ``seed`` is not used. NaN counts as the largest: it is sent, and
        refused.

        Raises:
            InvariantError: the vector has more elements than a place can count.
        """
        return self.encode_ranked(values, values)

    def encode_ranked(self, values: FloatArray, scores: FloatArray) -> memoryview:
        """Choose by the magnitude of ``scores``, float32 ``(num_elements,)``, and write the ``values`` there.

        Raises:
            InvariantError: the vector has more elements than a place can count.
        """
        if values.size > _MAX_ELEMENTS:
            raise InvariantError(f"topk counts places up to {_MAX_ELEMENTS}; the vector has {values.size} elements.")
        places = _largest(scores, self._count(values.size))
        payload = np.empty(8 * places.size, np.uint8)
        payload[: 4 * places.size].view("<u4")[:] = places
        payload[4 * places.size :].view("<f4")[:] = values[places]
        return payload.data

    def max_payload_bytes(self, num_elements: int) -> int:
        """Exactly eight bytes for each element that is kept."""
        return 8 * self._count(num_elements)

    def decode(self, payload: memoryview | bytes, num_elements: int) -> _Sparse:
        """The vector, to be read in blocks.

        Raises:
            RejectedUpdate: with ``Reason.MALFORMED``, the payload has another length, or its places do not rise or do
                not lie in the vector.
        """
        num_bytes, expected = memoryview(payload).nbytes, self.max_payload_bytes(num_elements)
        if num_bytes != expected:
            raise RejectedUpdate(
                Reason.MALFORMED,
                f"the topk payload has {num_bytes} bytes; {num_elements} elements take {expected}.",
            )
        places = np.frombuffer(payload, "<u4", count=num_bytes // 8).astype(np.uint32, copy=False)
        if places.size and (int(places[-1]) >= num_elements or not (places[1:] > places[:-1]).all()):
            raise RejectedUpdate(Reason.MALFORMED, "the topk payload's places do not rise within the vector.")
        values = np.frombuffer(payload, "<f4", offset=num_bytes // 2).astype(np.float32, copy=False)
        return _Sparse(places, values, num_elements)

    def _count(self, num_elements: int) -> int:
        return min(num_elements, math.ceil(self._fraction * num_elements))


class _Sparse:
    def __init__(self, places: npt.NDArray[np.uint32], values: FloatArray, size: int) -> None:
        self._places = places
        self._values = values
        self.size = size

    def read_into(self, out: FloatArray, start: int, weight: float) -> None:
        out.fill(0)
        # Keys of the places' own type: others would convert all places at each call.
        low, high = np.searchsorted(self._places, np.array([start, start + out.size], np.uint32))
        out[self._places[low:high] - np.uint32(start)] = self._values[low:high] * np.float32(weight)


def _nth_largest(magnitudes: FloatArray, count: int) -> np.float32:
    """The ``count``-th largest of all, exact; of many it looks only at those that a sample says may be it."""
    if count * 8 < magnitudes.size > 2**16:
        sample = magnitudes[::_SAMPLE_STRIDE]
        enough = min(sample.size, 2 * count // _SAMPLE_STRIDE + 32)
        bound = np.partition(sample, sample.size - enough)[sample.size - enough]
        candidates = magnitudes[magnitudes >= bound]
        if candidates.size >= count:  # else the sample was misleading
            magnitudes = candidates
    place = magnitudes.size - count
    nth: np.float32 = np.partition(magnitudes, place)[place]
    return nth


def _largest(values: FloatArray, count: int) -> npt.NDArray[np.intp]:
    """Rising places of the ``count`` largest magnitudes."""
    if count == values.size:
        return np.arange(count)
    magnitudes = np.abs(values)
    magnitudes[np.isnan(magnitudes)] = np.inf
    threshold = _nth_largest(magnitudes, count)
    above = np.flatnonzero(magnitudes > threshold)
    equal = np.flatnonzero(magnitudes == threshold)[: count - above.size]
    return np.sort(np.concatenate([above, equal]))
