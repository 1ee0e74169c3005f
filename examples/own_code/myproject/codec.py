"""A codec: one sign bit per element and one scale for all, with what it leaves out added to the next update."""

from __future__ import annotations

import math
import struct

import numpy as np

from fedtide import Codec, FloatArray, Reason, RejectedUpdate

_SCALE = struct.Struct("<f")


class Signs(Codec):
    """Payload: the mean magnitude as a little-endian float32, then the signs, eight to a byte."""

    needs_feedback = True

    def encode(self, values: FloatArray, seed: int) -> bytes:
        """1/32 of the bytes of float32."""
        return _SCALE.pack(np.abs(values).mean()) + np.packbits(values >= 0).tobytes()

    def max_payload_bytes(self, num_elements: int) -> int:
        """Exactly that many."""
        return _SCALE.size + math.ceil(num_elements / 8)

    def decode(self, payload: memoryview | bytes, num_elements: int) -> FloatArray:
        """Whoever sent this may be hostile: the length is checked before anything is made of it."""
        if len(payload) != self.max_payload_bytes(num_elements):
            raise RejectedUpdate(Reason.MALFORMED, f"{len(payload)} bytes of signs for {num_elements} elements")
        (scale,) = _SCALE.unpack_from(payload)
        bits = np.unpackbits(np.frombuffer(payload, np.uint8, offset=_SCALE.size), count=num_elements)
        values: FloatArray = np.where(bits == 1, np.float32(scale), np.float32(-scale)).astype(np.float32)
        return values
