"""A codec of the user's own, as the coordinator uses it: a payload that it cannot read costs that update alone."""

from __future__ import annotations

import numpy as np

from fl_core.codecs import Codec
from fl_core.errors import Reason, RejectedUpdate, SpecError
from fl_core.user_code import RAISED, describe, log_traceback, raised
from fl_core.vectors import FloatArray, Vector, read_all

KEY = "codec.name"


class OwnCodec:
    """The coordinator's half of a codec that is not trusted to be right.

    Args:
        path: its import path.
        codec: as it was built.
    """

    def __init__(self, path: str, codec: Codec) -> None:
        self._path = path
        self._codec = codec
        self._limits: dict[int, int] = {}

    def max_payload_bytes(self, num_elements: int) -> int:
        """The longest payload for a vector of this size.

        Raises:
            UserCodeError: the codec cannot say.
        """
        if num_elements not in self._limits:
            try:
                self._limits[num_elements] = int(self._codec.max_payload_bytes(num_elements))
            except RAISED as error:
                raise raised(KEY, self._path, f"max_payload_bytes({num_elements})", error) from error
        return self._limits[num_elements]

    def decode(self, payload: memoryview | bytes, num_elements: int) -> Vector:
        """The payload's vector, decoded: what has to be read later could raise in the middle of a merge.

        Raises:
            RejectedUpdate: it cannot be had; malformed, unless the codec says why itself.
        """
        try:
            values = np.asarray(read_all(self._codec.decode(payload, num_elements)), np.float32)
        except RejectedUpdate:
            raise
        except RAISED as error:
            raise RejectedUpdate(
                Reason.MALFORMED, f"{KEY} = {self._path!r} raised {describe(error, self._path)} in decode()"
            ) from None
        if values.shape != (num_elements,):
            raise RejectedUpdate(
                Reason.MALFORMED,
                f"{KEY} = {self._path!r} decoded {values.shape} elements, the vector has {num_elements}",
            )
        return values


def verify_codec(path: str, codec: Codec, num_elements: int) -> None:
    """Refuse a codec that does not bring a vector of this size there and back in the right form.

    Raises:
        SpecError: it raises, its payload is longer than it says, or what it decodes is no such vector.
    """
    values: FloatArray = np.linspace(-1.0, 1.0, num_elements, dtype=np.float32)
    try:
        payload = codec.encode(values, 0)
        num_bytes, limit = memoryview(payload).nbytes, codec.max_payload_bytes(num_elements)
        decoded = read_all(codec.decode(payload, num_elements))
    except RAISED as error:
        log_traceback(KEY, path, error)
        raise SpecError(
            f"{KEY} = {path!r} cannot bring {num_elements} elements there and back: {describe(error, path)}."
        ) from error
    if num_bytes > limit:
        raise SpecError(
            f"{KEY} = {path!r} encodes {num_elements} elements in {num_bytes} bytes, and says at most {limit}."
        )
    form = f"{decoded.dtype} of shape {decoded.shape}" if isinstance(decoded, np.ndarray) else type(decoded).__name__
    if form != f"float32 of shape ({num_elements},)":
        raise SpecError(f"{KEY} = {path!r} decodes {form}; it is float32 of shape ({num_elements},).")
