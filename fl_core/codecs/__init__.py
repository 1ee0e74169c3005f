"""Codecs: how a vector is written into bytes, and read back.

A codec may lose precision, may work in blocks, and may give a payload whose length depends on the values; it states a
bound, so that a reader can refuse a payload before it allocates anything. A device that wants to know what a lossy
codec lost (error feedback) decodes its own payload.
"""

from __future__ import annotations

from typing import Protocol

from fl_core.codecs.fp32 import Fp32
from fl_core.errors import SpecError
from fl_core.vectors import FloatArray

__all__ = ["Codec", "codec"]


class Codec(Protocol):
    """Vector to payload and back. A codec holds no state: what it needs is in the payload."""

    @property
    def name(self) -> str:
        """How a spec and an update name this codec."""
        ...

    def encode(self, values: FloatArray, seed: int) -> memoryview | bytes:
        """Write a vector.

        Args:
            values: float32 of shape ``(num_elements,)``. It may be lent to the result, so do not change it before the
                payload has been sent.
            seed: for codecs that round at random; the same seed and values give the same bytes.

        Returns:
            At most ``max_payload_bytes(num_elements)`` bytes.
        """
        ...

    def max_payload_bytes(self, num_elements: int) -> int:
        """The longest payload that ``encode`` can give for a vector of this size."""
        ...

    def decode(self, payload: memoryview | bytes, num_elements: int) -> FloatArray:
        """Read a payload from an untrusted sender.

        Returns:
            float32 of shape ``(num_elements,)``, read-only; it may be a view of ``payload``.

        Raises:
            RejectedUpdate: with ``Reason.MALFORMED``, the payload is not one of this codec and size.
        """
        ...


_CODECS: dict[str, Codec] = {"fp32": Fp32()}


def codec(name: str) -> Codec:
    """The codec of that name.

    Raises:
        SpecError: there is none.

    >>> codec("fp32").max_payload_bytes(10)
    40
    """
    try:
        return _CODECS[name]
    except KeyError:
        raise SpecError(f"codec.name = {name!r} is not known; it is one of {', '.join(map(repr, _CODECS))}.") from None
