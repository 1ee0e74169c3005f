"""fp32: the vector itself, little-endian float32. Lossless to the bit, and free where the machine is little-endian."""

from __future__ import annotations

import numpy as np

from fl_core.codecs.base import Codec
from fl_core.errors import Reason, RejectedUpdate
from fl_core.vectors import FloatArray


class Fp32(Codec):
    """Four bytes per element, in order; NaN payloads, infinities and signed zeros are kept.

    >>> bytes(Fp32().encode(np.array([1.0, -2.0], np.float32), seed=0)).hex(" ", 4)
    '0000803f 000000c0'
    """

    name = "fp32"

    def encode(self, values: FloatArray, seed: int) -> memoryview:
        """The vector's own memory, not copied, where it is contiguous and little-endian; ``seed`` is not used."""
        return np.ascontiguousarray(values, dtype="<f4").view(np.uint8).data

    def max_payload_bytes(self, num_elements: int) -> int:
        """Exactly four bytes per element."""
        return 4 * num_elements

    def decode(self, payload: memoryview | bytes, num_elements: int) -> FloatArray:
        """A read-only view of the payload; copied only where it does not start at a multiple of four bytes.

        Raises:
            RejectedUpdate: with ``Reason.MALFORMED``, the payload is longer or shorter than the vector.
        """
        num_bytes = memoryview(payload).nbytes
        if num_bytes != 4 * num_elements:
            raise RejectedUpdate(
                Reason.MALFORMED,
                f"the fp32 payload has {num_bytes} bytes; {num_elements} elements take {4 * num_elements}.",
            )
        values: FloatArray = np.frombuffer(payload, dtype="<f4").astype(np.float32, copy=False)
        if not values.flags.aligned:
            values = values.copy()
        values.flags.writeable = False
        return values
