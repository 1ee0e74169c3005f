"""fp16 and bf16: two bytes per element, little-endian, rounded to nearest (ties to even).

fp16 keeps 11 significant bits and ends at 65504; bf16 keeps 8 and has float32's range. Parameters and deltas of most
models fit both; a magnitude beyond fp16's range becomes infinite, so that the update is refused instead of changed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fl_core.codecs.base import Codec
from fl_core.errors import Reason, RejectedUpdate
from fl_core.vectors import BLOCK, FloatArray


class Fp16(Codec):
    """IEEE 754 binary16. Relative error at most 2⁻¹¹ from 2⁻¹⁴ to 65504, absolute error at most 2⁻²⁵ below.

    >>> bytes(Fp16().encode(np.array([1.0, -2.0], np.float32), seed=0)).hex(" ", 2)
    '003c 00c0'
    """

    name = "fp16"

    def encode(self, values: FloatArray, seed: int) -> memoryview:
        """Round each element; ``seed`` is not used."""
        halves = np.empty(values.size, np.float16)
        _convert(halves, np.require(values, np.float32, ["C", "W"]))
        return halves.astype("<f2", copy=False).view(np.uint8).data

    def max_payload_bytes(self, num_elements: int) -> int:
        """Exactly two bytes per element."""
        return 2 * num_elements

    def decode(self, payload: memoryview | bytes, num_elements: int) -> _Halves:
        """The vector, to be read in blocks.

        Raises:
            RejectedUpdate: with ``Reason.MALFORMED``, the payload is longer or shorter than the vector.
        """
        return _Halves(_read_pairs(payload, num_elements, self.name))


class _Halves:
    def __init__(self, pairs: npt.NDArray[np.uint16]) -> None:
        self._pairs = pairs
        self.size = pairs.size

    def read_into(self, out: FloatArray, start: int, weight: float) -> None:
        _convert(out, self._pairs[start : start + out.size].view(np.float16))
        if weight != 1:
            np.multiply(out, np.float32(weight), out=out)


def _convert(target: npt.NDArray[np.floating], source: npt.NDArray[np.floating]) -> None:
    # torch converts with the processor's own instruction, numpy (2.4) in software: measured 4.6 against 0.5 billion
    # elements per second. Both round to nearest, ties to even, so they give the same bits.
    import torch

    torch.from_numpy(target).copy_(torch.from_numpy(source))


class Bf16(Codec):
    """The upper half of a float32. Relative error at most 2⁻⁸ for normal float32; NaN stays NaN.

    >>> bytes(Bf16().encode(np.array([1.0, -2.0], np.float32), seed=0)).hex(" ", 2)
    '803f 00c0'
    """

    name = "bf16"

    def encode(self, values: FloatArray, seed: int) -> memoryview:
        """Round each element; ``seed`` is not used."""
        pairs = np.empty(values.size, "<u2")
        for start in range(0, values.size, BLOCK):
            block = np.ascontiguousarray(values[start : start + BLOCK], np.float32)
            bits = block.view(np.uint32)
            # Half of the lower half's range, and one more where the upper half is odd: ties go to even.
            rounded = ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
            rounded += bits
            rounded >>= np.uint32(16)
            rounded[np.isnan(block)] = 0x7FC0  # rounding may have carried a NaN's payload into its sign
            pairs[start : start + BLOCK] = rounded
        return pairs.view(np.uint8).data

    def max_payload_bytes(self, num_elements: int) -> int:
        """Exactly two bytes per element."""
        return 2 * num_elements

    def decode(self, payload: memoryview | bytes, num_elements: int) -> _UpperHalves:
        """The vector, to be read in blocks.

        Raises:
            RejectedUpdate: with ``Reason.MALFORMED``, the payload is longer or shorter than the vector.
        """
        return _UpperHalves(_read_pairs(payload, num_elements, self.name))


class _UpperHalves:
    def __init__(self, pairs: npt.NDArray[np.uint16]) -> None:
        self._pairs = pairs
        self.size = pairs.size

    def read_into(self, out: FloatArray, start: int, weight: float) -> None:
        bits = out.view(np.uint32)
        np.copyto(bits, self._pairs[start : start + out.size])
        np.left_shift(bits, np.uint32(16), out=bits)
        if weight != 1:
            np.multiply(out, np.float32(weight), out=out)


def _read_pairs(payload: memoryview | bytes, num_elements: int, name: str) -> npt.NDArray[np.uint16]:
    view = memoryview(payload)
    if view.nbytes != 2 * num_elements:
        raise RejectedUpdate(
            Reason.MALFORMED,
            f"the {name} payload has {view.nbytes} bytes; {num_elements} elements take {2 * num_elements}.",
        )
    pairs: npt.NDArray[np.uint16] = np.frombuffer(payload, "<u2").astype(np.uint16, copy=False)
    # torch takes no memory that is read-only or not aligned. Payloads that ride in the log are, and they are small.
    return pairs if pairs.flags.writeable and pairs.flags.aligned else pairs.copy()
