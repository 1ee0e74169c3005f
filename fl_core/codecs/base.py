"""The base class of all codecs, built in or one's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from fl_core.signatures import verify_class
from fl_core.vectors import FloatArray, Vector


class Codec(ABC):
    """Vector to payload and back. A codec holds its settings and no other state.

    A spec gives the settings of one's own in ``[codec.own_args]``, as arguments by name. Methods of another form are
    refused when the class is made.

    Attributes:
        name: how a spec and an update name this codec; one's own is called by its import path.
        needs_feedback: whether what a payload leaves out has to be added to the device's next update
            (``ErrorFeedback``).

    Raises:
        SpecError: a method of a subclass has another form (when the class is made).
    """

    name: str = ""
    needs_feedback: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        verify_class(cls, Codec, ("encode", "max_payload_bytes", "decode"))

    @abstractmethod
    def encode(self, values: FloatArray, seed: int) -> memoryview | bytes:
        """Write a vector.

        Args:
            values: float32 of shape ``(num_elements,)``. It may be lent to the result, so do not change it before the
                payload has been sent.
            seed: for codecs that round at random; the same seed and values give the same bytes.

        Returns:
            At most ``max_payload_bytes(num_elements)`` bytes.
        """

    @abstractmethod
    def max_payload_bytes(self, num_elements: int) -> int:
        """The longest payload that ``encode`` can give for a vector of this size."""

    @abstractmethod
    def decode(self, payload: memoryview | bytes, num_elements: int) -> Vector:
        """Check a payload from an untrusted sender and give its vector, without decoding what need not be yet.

        Returns:
            ``num_elements`` elements that may lie in ``payload``: a read-only array, or a vector to be read in blocks.

        Raises:
            RejectedUpdate: with ``Reason.MALFORMED``, the payload is not one of this codec and size; with
                ``Reason.NOT_FINITE``, a part that was looked at holds NaN or infinity. Other values are not looked at.
        """
