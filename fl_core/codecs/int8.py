"""int8: one signed byte per element and one scale per block, rounded at random so that the mean is right.

The quantiser of QSGD (Alistarh et al., NeurIPS 2017, arXiv 1610.02132) with 127 levels, each block scaled by its
largest magnitude instead of its 2-norm.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fl_core.codecs.base import Codec
from fl_core.errors import InvariantError, Reason, RejectedUpdate
from fl_core.vectors import BLOCK, FloatArray

_LEVELS = np.float32(127)
_STEP = np.float32(2.0**-16)
# A block of subnormal numbers has no scale of its own: dividing by one would overflow.
_SMALLEST_SCALE = np.float32(2.0**-126)


class Int8(Codec):
    """x ≈ scale · q with q from -127 to 127 and scale = max |x| / 127 over each block.

    q is x / scale rounded down or up with the probabilities that make its mean x / scale (to 2⁻¹⁷, float32's own
    rounding), so the error of an element is below one scale, and errors of many devices average out.

    The payload holds all scales (little-endian float32), then all q.

    Args:
        block_size: elements per scale; a power of two, at most 32768.

    >>> payload = Int8().encode(np.array([-12.7, 0.0, 0.1], np.float32), seed=0)
    >>> list(bytes(payload)[4:])
    [129, 0, 1]
    """

    name = "int8"

    def __init__(self, block_size: int = 1024) -> None:
        self._block_size = block_size

    def encode(self, values: FloatArray, seed: int) -> memoryview:
        """Round each element at random; a block with NaN or infinity gets a scale that says so."""
        return self.encode_difference(values, None, seed)

    def encode_difference(self, values: FloatArray, base: FloatArray | None, seed: int) -> memoryview:
        """Write ``values - base``, which is not held in memory; as ``encode`` where there is no ``base``."""
        size, num_scales = values.size, self._num_scales(values.size)
        payload = np.empty(4 * num_scales + size, np.uint8)
        scales = payload[: 4 * num_scales].view("<f4")
        quanta = payload[4 * num_scales :].view(np.int8)
        bits = np.random.SFC64(seed)
        length = self._block_size * (BLOCK // self._block_size)
        scaled = np.empty(min(length, num_scales * self._block_size), np.float32)
        noise = np.empty_like(scaled)
        with np.errstate(all="ignore"):
            for start in range(0, size, length):
                block = values[start : start + length]
                if base is not None:
                    block = np.subtract(block, base[start : start + length])
                rows = -(-block.size // self._block_size)
                table = scaled[: rows * self._block_size].reshape(rows, self._block_size)
                if block.size == table.size:
                    blocks = block.reshape(table.shape)
                else:  # the end: what is missing counts as zero
                    blocks = np.zeros_like(table)
                    blocks.reshape(-1)[: block.size] = block
                scale = np.maximum(np.maximum(blocks.max(axis=1), -blocks.min(axis=1)) / _LEVELS, _SMALLEST_SCALE)
                first = start // self._block_size
                scales[first : first + rows] = scale
                np.divide(blocks, scale[:, None], out=table)
                # 16 bits of noise per element, in the middle of its 2¹⁶ steps: four elements for each draw.
                drawn = bits.random_raw(-(-table.size // 4)).view(np.uint16)[: table.size]
                part = noise[: table.size].reshape(table.shape)
                np.multiply(drawn.reshape(table.shape), _STEP, out=part)
                np.add(table, part, out=table)
                np.add(table, _STEP / 2, out=table)
                np.floor(table, out=table)
                np.clip(table, -_LEVELS, _LEVELS, out=table)
                np.copyto(quanta[start : start + block.size], table.reshape(-1)[: block.size], casting="unsafe")
        return payload.data

    def scales(self, payload: memoryview | bytes, num_elements: int) -> FloatArray:
        """The scales in a payload of ``encode``, float32, one for each block."""
        return np.frombuffer(payload, "<f4", count=self._num_scales(num_elements)).astype(np.float32, copy=False)

    def scales_of(self, values: FloatArray) -> FloatArray:
        """The scales that ``encode`` would give a vector; NaN where a block has NaN."""
        starts = np.arange(0, values.size, self._block_size)
        peaks = np.maximum(np.maximum.reduceat(values, starts), -np.minimum.reduceat(values, starts))
        return np.maximum(peaks / _LEVELS, _SMALLEST_SCALE)

    def max_payload_bytes(self, num_elements: int) -> int:
        """Exactly one byte per element and four per block."""
        return num_elements + 4 * self._num_scales(num_elements)

    def decode(self, payload: memoryview | bytes, num_elements: int) -> _Quantised:
        """The vector, to be read in blocks.

        Raises:
            RejectedUpdate: with ``Reason.MALFORMED``, the payload is longer or shorter than the vector, or a scale is
                negative; with ``Reason.NOT_FINITE``, a scale is NaN or infinite.
        """
        num_bytes, expected = memoryview(payload).nbytes, self.max_payload_bytes(num_elements)
        if num_bytes != expected:
            raise RejectedUpdate(
                Reason.MALFORMED,
                f"the int8 payload has {num_bytes} bytes; {num_elements} elements take {expected}.",
            )
        num_scales = self._num_scales(num_elements)
        scales = np.frombuffer(payload, "<f4", count=num_scales).astype(np.float32)
        if not np.isfinite(scales).all():
            raise RejectedUpdate(
                Reason.NOT_FINITE, "it holds NaN or infinite values; lower the learning rate on the device"
            )
        if (scales < 0).any():
            raise RejectedUpdate(Reason.MALFORMED, f"the int8 payload has a scale of {scales.min():g}, below 0.")
        quanta = np.frombuffer(payload, np.int8, offset=4 * num_scales)
        return _Quantised(quanta, scales, self._block_size)

    def _num_scales(self, num_elements: int) -> int:
        return -(-num_elements // self._block_size)


class _Quantised:
    def __init__(self, quanta: npt.NDArray[np.int8], scales: FloatArray, block_size: int) -> None:
        self._quanta = quanta
        self._scales = scales
        self._block_size = block_size
        self.size = quanta.size

    def read_into(self, out: FloatArray, start: int, weight: float) -> None:
        first, rest = divmod(start, self._block_size)
        if rest:
            raise InvariantError(f"A block from {start} was asked for; blocks start at multiples of {BLOCK}.")
        np.copyto(out, self._quanta[start : start + out.size])
        rows, tail = divmod(out.size, self._block_size)
        with np.errstate(over="ignore"):  # a hostile scale; admission looks at what it gives
            # The weight goes into the scales, of which there are few.
            scales = self._scales[first : first + rows + 1] * np.float32(weight)
            if rows:
                table = out[: out.size - tail].reshape(rows, self._block_size)
                np.multiply(table, scales[:rows, None], out=table)
            if tail:
                np.multiply(out[-tail:], scales[rows], out=out[-tail:])
