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

A codec states a bound, so that a reader can refuse a payload before it allocates anything. Beyond the payload it needs
only its own settings, which the spec gives to the coordinator and the task to the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from fl_core.built_in import CODECS
from fl_core.codecs.base import Codec
from fl_core.codecs.error_feedback import ErrorFeedback
from fl_core.errors import Reason, RejectedUpdate, SpecError
from fl_core.factory import resolve
from fl_core.signatures import verified, verify_inherits
from fl_core.user_code import build

__all__ = ["Codec", "ErrorFeedback", "codec", "down_codec"]

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
    if name not in CODECS:
        raise SpecError(f"codec.name = {name!r} is not known; it is one of {', '.join(map(repr, CODECS))}.")
    try:
        built_in: Codec = _class_of(name)(**(args or {}))
        return built_in
    except TypeError:
        raise SpecError(f"codec {name!r} does not take {dict(args or {})!r}; see the table of codecs.") from None


@cache
def _class_of(name: str) -> Any:
    return resolve(CODECS[name], "codec.name")


def down_codec(name: str) -> Codec:
    """The codec that a version or a patch is said to be written in: always one of our own, whatever the broker says.

    Raises:
        RejectedUpdate: it is none of them (malformed).

    >>> down_codec("fp16").name
    'fp16'
    """
    if name not in _DOWN:
        raise RejectedUpdate(Reason.MALFORMED, f"{name[:80]!r} is no codec for versions")
    return codec(name)


def _own_codec(name: str, args: Mapping[str, Any]) -> Codec:
    made: Any = resolve(name, "codec.name")
    if isinstance(made, type):
        verify_inherits("codec.name", name, made, Codec)
    own = build("codec.name", name, made, **verified("codec.name", name, made, (), args))
    if not isinstance(own, Codec):
        raise SpecError(f"codec.name = {name!r} gave a {type(own).__name__}, which is no fedtide.Codec.")
    own.name = name
    return own
