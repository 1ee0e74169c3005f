"""fp32 gives back every bit, copies nothing, and refuses any other length."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fl_core.codecs import codec
from fl_core.errors import Reason, RejectedUpdate, SpecError

# Any bit pattern is a float32: NaNs with payloads, signalling ones, infinities, denormals, both zeros.
bit_patterns = arrays(np.uint32, st.integers(0, 200), elements=st.integers(0, 2**32 - 1))


@given(bits=bit_patterns, seed=st.integers(0, 2**63 - 1))
def test_round_trip_is_bit_exact(bits: npt.NDArray[np.uint32], seed: int) -> None:
    """Every bit pattern comes back as it was, whether the payload is a view or bytes."""
    fp32 = codec("fp32")
    payload = fp32.encode(bits.view(np.float32), seed)
    assert memoryview(payload).nbytes == 4 * bits.size == fp32.max_payload_bytes(bits.size)
    for received in (payload, bytes(payload), memoryview(bytearray(payload))):
        values = fp32.decode(received, bits.size)
        assert values.dtype == np.float32
        assert values.shape == bits.shape
        np.testing.assert_array_equal(values.view(np.uint32), bits)


def test_payload_is_little_endian() -> None:
    """The bytes do not depend on the machine."""
    assert bytes(codec("fp32").encode(np.array([1.0, -0.5], np.float32), 0)) == bytes.fromhex("0000803f000000bf")


@given(num_elements=st.integers(0, 50), num_bytes=st.integers(0, 210))
def test_wrong_lengths_are_refused(num_elements: int, num_bytes: int) -> None:
    """Only four bytes per element are taken; anything else is a malformed update."""
    payload = bytes(num_bytes)
    if num_bytes == 4 * num_elements:
        assert codec("fp32").decode(payload, num_elements).size == num_elements
        return
    with pytest.raises(RejectedUpdate, match=f"{num_bytes} bytes") as caught:
        codec("fp32").decode(payload, num_elements)
    assert caught.value.reason is Reason.MALFORMED


def test_nothing_is_copied() -> None:
    """Encoding lends the vector's memory, decoding gives a read-only view of the payload."""
    values = np.arange(100, dtype=np.float32)
    payload = codec("fp32").encode(values, 0)
    assert np.shares_memory(np.frombuffer(payload, np.uint8), values)
    decoded = codec("fp32").decode(payload, 100)
    assert np.shares_memory(decoded, values)
    assert not decoded.flags.writeable
    assert not codec("fp32").decode(bytearray(payload), 100).flags.writeable  # type: ignore[arg-type]
    assert values.flags.writeable


def test_read_only_and_strided_vectors_can_be_encoded() -> None:
    """A base version that is read-only, or a slice with a stride, encodes as its values."""
    values = np.arange(10, dtype=np.float32)
    values.flags.writeable = False
    assert bytes(codec("fp32").encode(values, 0)) == values.tobytes()
    assert bytes(codec("fp32").encode(values[::2], 0)) == values[::2].tobytes()


def test_an_unaligned_payload_is_read() -> None:
    """A payload in the middle of a larger message decodes to aligned memory."""
    values = np.array([1.5, -2.25, 3.0], np.float32)
    decoded = codec("fp32").decode(memoryview(b"x" + values.tobytes())[1:], 3)
    assert decoded.flags.aligned
    np.testing.assert_array_equal(decoded, values)


def test_unknown_codec_is_a_spec_error() -> None:
    """A codec that does not exist is named in the error, with those that do."""
    with pytest.raises(SpecError, match="'fp7' is not known; it is one of 'fp32'"):
        codec("fp7")
