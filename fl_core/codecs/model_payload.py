"""The bytes of a whole model, and of an update to it: weights as the campaign's codec writes them, the rest as it is.

A codec is made for weights: it rounds, drops and ranks them. It must not touch buffers: the 1e5 of a variance would be
infinite in fp16, and a mask of -inf has no scale. So what is not a weight stands behind the weights, in the
layout's order (numbers are little-endian):

- of a version: all state, float32. Constants are not in it (``fl_core/broker/bulk/constants.py``);
- of an update, and of a patch to a version: the state as far as it has changed. First the tensors of the role ``mean``,
  float32; then a bit for each of the role ``latest``, the lowest of a byte first, which says whether it follows; then
  those that do, float32; last the length of all that in bytes, uint32. A model without state has none of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fl_core.codecs import Codec
from fl_core.errors import Reason, RejectedUpdate
from fl_core.vectors import FloatArray, Vector, read_all
from fl_core.vectors.layout import Layout

if TYPE_CHECKING:
    from fl_core.codecs.own_codec import OwnCodec

_LENGTH = np.dtype("<u4")


@dataclass(frozen=True, slots=True)
class ModelState:
    """The values of a model's state on one device.

    Attributes:
        means: of the role ``mean``, float32, one tensor after the other.
        latest: of the role ``latest``, those that differ from the base version's: by the tensor's place among them.
    """

    means: FloatArray
    latest: dict[int, FloatArray]


def encode_version(codec: Codec, layout: Layout, values: FloatArray, seed: int) -> memoryview:
    """A version's bytes, for devices and evaluation.

    Args:
        values: float32 ``(num_moving,)``; they may be lent to the result.
        seed: as of ``Codec.encode``.
    """
    if codec.name == "fp32":  # the vector itself
        return memoryview(codec.encode(values, seed)).cast("B")
    payload = codec.encode(values[layout.trainable], seed)
    rest = values[layout.num_parameters :]
    return memoryview(b"".join((payload, _bytes(rest)))) if rest.size else memoryview(payload).cast("B")


def max_version_bytes(codec: Codec, layout: Layout) -> int:
    """The longest that ``encode_version`` can give."""
    return codec.max_payload_bytes(layout.num_parameters) + 4 * layout.num_state


def decode_version(codec: Codec, layout: Layout, payload: memoryview | bytes) -> FloatArray:
    """The vector of ``encode_version``: float32 ``(num_moving,)``, read-only where it lies in ``payload``.

    Raises:
        RejectedUpdate: the payload is not one of this codec and layout.
    """
    num_rest = layout.num_state
    if codec.name == "fp32" or not num_rest:
        return read_all(codec.decode(payload, layout.num_moving))
    view = memoryview(payload).cast("B")
    weights = len(view) - 4 * num_rest
    if weights < 0:
        raise _malformed(f"{len(view)} bytes, and the model's buffers alone take {4 * num_rest}")
    values: FloatArray = np.empty(layout.num_moving, np.float32)
    values[layout.trainable] = read_all(codec.decode(view[:weights], layout.num_parameters))
    values[layout.num_parameters :] = np.frombuffer(view[weights:], "<f4")
    return values


def append_state(payload: memoryview | bytes, layout: Layout, state: FloatArray, base: FloatArray) -> memoryview:
    """A payload of weights with the state behind it; itself where the model has none.

    Args:
        state, base: float32 ``(num_state,)``: the values to be written, and those that the reader has.
    """
    if not layout.num_state:
        return memoryview(payload).cast("B")
    changed = [not np.array_equal(state[where].view(np.uint32), base[where].view(np.uint32)) for where in layout.latest]
    parts = [_bytes(state[: _num_means(layout)]), np.packbits(np.array(changed, bool), bitorder="little").tobytes()]
    parts += [_bytes(state[where]) for where, new in zip(layout.latest, changed, strict=True) if new]
    length = np.array([sum(map(len, parts))], _LENGTH).tobytes()
    return memoryview(b"".join((payload, *parts, length)))


def max_state_bytes(layout: Layout) -> int:
    """The longest that ``append_state`` can add."""
    return 4 * layout.num_state + (len(layout.latest) + 7) // 8 + _LENGTH.itemsize if layout.num_state else 0


def split_state(payload: memoryview | bytes, layout: Layout) -> tuple[memoryview, ModelState | None]:
    """The inverse of ``append_state``, from an untrusted sender; None for a model without state.

    Raises:
        RejectedUpdate: with ``Reason.MALFORMED``, the state is not one of this layout.
    """
    view = memoryview(payload).cast("B")
    if not layout.num_state:
        return view, None
    if len(view) < _LENGTH.itemsize:
        raise _malformed(f"{len(view)} bytes and no state")
    body, length = view[: -_LENGTH.itemsize], int.from_bytes(view[-_LENGTH.itemsize :], "little")
    means, places = 4 * _num_means(layout), layout.latest
    values = means + (len(places) + 7) // 8
    if not values <= length <= len(body):
        raise _malformed(f"a state of {length} bytes; that of this model has at least {values}")
    tail = body[len(body) - length :]
    flags = np.unpackbits(np.frombuffer(tail[means:values], np.uint8), bitorder="little").astype(bool)
    follow = [place for place in range(len(places)) if flags[place]]
    sizes = [places[place].stop - places[place].start for place in follow]
    if flags[len(places) :].any() or length != values + 4 * sum(sizes):
        raise _malformed(f"a state of {length} bytes, which is not what its flags say")
    numbers = np.frombuffer(tail[values:], "<f4").astype(np.float32)
    latest = dict(zip(follow, np.split(numbers, np.cumsum(sizes[:-1])) if sizes else [], strict=True))
    return body[: len(body) - length], ModelState(np.frombuffer(tail[:means], "<f4").astype(np.float32), latest)


def decode_update(
    codec: Codec | OwnCodec, layout: Layout, payload: memoryview | bytes, num_weights: int
) -> tuple[Vector, ModelState | None]:
    """An update's weights, which may still be encoded, and its state.

    Raises:
        RejectedUpdate: the payload is not one of this codec, size and layout.
    """
    weights, state = split_state(payload, layout)
    return codec.decode(weights, num_weights), state


def write_state(layout: Layout, state: ModelState, values: FloatArray) -> None:
    """Put a state into a model's vector, float32 ``(num_moving,)`` or longer, in place."""
    values[layout.means] = state.means
    for place, new in state.latest.items():
        where = layout.latest[place]
        values[layout.num_parameters + where.start : layout.num_parameters + where.stop] = new


def _num_means(layout: Layout) -> int:
    return int(layout.means.stop) - int(layout.means.start)


def _bytes(values: FloatArray) -> bytes:
    return values.astype("<f4", copy=False).tobytes()


def _malformed(what: str) -> RejectedUpdate:
    return RejectedUpdate(Reason.MALFORMED, f"the payload has {what}")
