"""Codecs: how a vector is written into bytes, and read back.

======  ===========================  =========================================================================
name    bytes per element            what is lost
======  ===========================  =========================================================================
fp32    4                            nothing
fp16    2                            all but 11 bits; magnitudes above 65504 become infinite
bf16    2                            all but 8 bits; every float32 magnitude fits
int8    1 + 4 / ``block_size``       at most one step of 1/127 of its block's largest magnitude, 0 in the mean
topk    8 · ``fraction``             all but the largest elements, which the device adds to its next update
======  ===========================  =========================================================================

A codec states a bound, so that a reader can refuse a payload before it allocates anything. What it needs beyond the
payload are its own settings, which the spec gives to the coordinator and the task to the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from fl_core.codecs.error_feedback import ErrorFeedback
from fl_core.codecs.fp32 import Fp32
from fl_core.codecs.half import Bf16, Fp16
from fl_core.codecs.int8 import Int8
from fl_core.codecs.topk import TopK
from fl_core.errors import Reason, RejectedUpdate, SpecError
from fl_core.factory import call
from fl_core.user_code import verify_members
from fl_core.vectors import FloatArray, Vector

__all__ = ["Codec", "ErrorFeedback", "codec", "down_codec"]


@runtime_checkable
class Codec(Protocol):
    """Vector to payload and back. A codec holds its settings and no other state."""

    @property
    def name(self) -> str:
        """How a spec and an update name this codec."""
        ...

    @property
    def needs_feedback(self) -> bool:
        """Whether what a payload leaves out has to be added to the device's next update (``ErrorFeedback``)."""
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

    def decode(self, payload: memoryview | bytes, num_elements: int) -> Vector:
        """Check a payload from an untrusted sender and give its vector, without decoding what need not be yet.

        Returns:
            ``num_elements`` elements that may lie in ``payload``: a read-only array, or a vector to be read in blocks.

        Raises:
            RejectedUpdate: with ``Reason.MALFORMED``, the payload is not one of this codec and size; with
                ``Reason.NOT_FINITE``, a part that was looked at holds NaN or infinity. Other values are not looked at.
        """
        ...


MEMBERS = (
    "name", "needs_feedback", "encode(values, seed)", "max_payload_bytes(num_elements)",
    "decode(payload, num_elements)",
)  # fmt: skip

_CODECS: dict[str, Callable[..., Codec]] = {"fp32": Fp32, "fp16": Fp16, "bf16": Bf16, "int8": Int8, "topk": TopK}
_DOWN = ("fp32", "fp16", "bf16", "int8")


def codec(name: str, args: Mapping[str, Any] | None = None) -> Codec:
    """The codec of that name.

    Args:
        name: see the table above, or the import path of one's own, which is called with ``args``.
        args: its settings: ``block_size`` of int8, ``fraction`` of topk.

    Raises:
        SpecError: there is none, it has no such settings, or one's own lacks members.

    >>> codec("fp32").max_payload_bytes(10)
    40
    >>> codec("topk", {"fraction": 0.25}).max_payload_bytes(10)
    24
    """
    if ":" in name:
        return _own_codec(name, args or {})
    kind = _CODECS.get(name)
    if kind is None:
        raise SpecError(f"codec.name = {name!r} is not known; it is one of {', '.join(map(repr, _CODECS))}.")
    try:
        return kind(**(args or {}))
    except TypeError:
        raise SpecError(f"codec {name!r} does not take {dict(args or {})!r}; see the table of codecs.") from None


def down_codec(name: str) -> Codec:
    """The codec that a version or a patch is said to be written in: always one of our own, whatever the broker says.

    Raises:
        RejectedUpdate: it is none of them (malformed).

    >>> down_codec("fp16").name
    'fp16'
    """
    if name not in _DOWN:
        raise RejectedUpdate(Reason.MALFORMED, f"{name[:80]!r} is no codec for versions")
    return _CODECS[name]()


def _own_codec(name: str, args: Mapping[str, Any]) -> Codec:
    made = call(name, args, "codec.name")
    verify_members("codec.name", name, made, Codec, *MEMBERS)
    own: Codec = made
    return own
