"""A codec keeps its word: there and back, within its bound, and no bytes of a stranger's raise anything else."""

from __future__ import annotations

import numpy as np

from fl_core.codecs import Codec
from fl_core.errors import RejectedUpdate
from fl_core.vectors import FloatArray, Vector, read_all


def round_trip(codec: Codec, values: FloatArray | int = 1000, seed: int = 0) -> FloatArray:
    """Encode a vector and decode it; then decode what is no payload of this codec.

    Args:
        codec: one that was built.
        values: the vector, or how many elements a random one has.
        seed: of the rounding, and of what is drawn.

    Returns:
        What came out of the vector: the caller judges how near it is.

    Raises:
        AssertionError: the payload is longer than the codec says, another one for the same seed, or decodes into
            something else than that many float32; ``encode`` wrote into the vector; or bytes that a stranger may send
            raise anything but ``RejectedUpdate``, or decode into another size.

    >>> from fedtide import Fp16
    >>> round_trip(Fp16(), np.array([1.0, -2.0], np.float32)).tolist()
    [1.0, -2.0]
    """
    name = type(codec).__name__
    generator = np.random.default_rng(seed)
    if isinstance(values, int):
        values = generator.normal(size=values).astype(np.float32)
    before = values.copy()
    payload = bytes(codec.encode(values, seed))
    assert (values.view(np.uint32) == before.view(np.uint32)).all(), f"{name}.encode() wrote into the vector"
    assert bytes(codec.encode(values, seed)) == payload, f"{name}.encode() gave other bytes for the same seed"
    limit = codec.max_payload_bytes(values.size)
    assert len(payload) <= limit, f"{name} encodes {values.size} elements in {len(payload)} bytes, above its {limit}"
    decoded = _checked(name, codec.decode(payload, values.size), values.size)
    for hostile in (b"", payload[:-1], payload + b"\0", payload[: len(payload) // 2], bytes(len(payload)),
                    generator.bytes(len(payload)), b"\xff" * len(payload)):  # fmt: skip
        try:
            _checked(name, codec.decode(hostile, values.size), values.size)
        except RejectedUpdate:
            continue
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(
                f"{name}.decode() of {len(hostile)} hostile bytes raised {type(error).__name__}: {error}; it has to "
                "raise RejectedUpdate(Reason.MALFORMED, ...)"
            ) from error
    return decoded


def _checked(name: str, vector: Vector, size: int) -> FloatArray:
    with np.errstate(all="ignore"):
        values = read_all(vector)
    form = f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
    assert form == f"float32 of shape ({size},)", f"{name}.decode() gave {form}; it is float32 of shape ({size},)"
    return values
