"""Codecs write weights; what stands beside them arrives as it is."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.codecs import codec
from fl_core.codecs.model_payload import (
    append_state,
    decode_update,
    decode_version,
    encode_version,
    max_state_bytes,
    max_version_bytes,
    write_state,
)
from fl_core.errors import RejectedUpdate
from fl_core.vectors import read_all
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout(
    (
        TensorSpec("w", (70,)),
        TensorSpec("running_var", (2,), role="mean"),
        TensorSpec("mask", (3,), role="latest"),
        TensorSpec("frozen", (9,), role="constant"),
    )
)
BESIDE = np.array([1e5, 3e38, -np.inf, np.nan, 1e-42], np.float32)


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16"])
def test_a_version_s_buffers_keep_their_bits(name: str) -> None:
    """A variance of 1e5 in fp16, a mask of -inf, a NaN: exact, behind weights that the codec has written."""
    weights = np.random.default_rng(0).normal(size=70).astype(np.float32)
    values = np.concatenate([weights, BESIDE])
    chosen = codec(name)
    payload = bytes(encode_version(chosen, LAYOUT, values, 0))
    assert len(payload) == max_version_bytes(chosen, LAYOUT)
    decoded = decode_version(chosen, LAYOUT, payload)
    np.testing.assert_array_equal(decoded[70:].view(np.uint32), BESIDE.view(np.uint32))
    np.testing.assert_array_equal(decoded[:70], read_all(chosen.decode(bytes(chosen.encode(weights, 0)), 70)))


@given(
    st.sampled_from(["fp32", "fp16", "bf16", "int8", "topk"]),
    st.integers(0, 2**32 - 1),
    st.lists(st.booleans(), max_size=9),
)
def test_an_update_comes_apart_as_it_was_put_together(name: str, seed: int, changed: list[bool]) -> None:
    """For each codec: weights as the codec says, statistics always, of the others those that have changed; a payload
    that was cut or altered there is refused, or is another state of the same layout."""
    rng, chosen = np.random.default_rng(seed), codec(name)
    extra = (TensorSpec(f"u{place}", (place,), role="latest") for place in range(len(changed)))
    layout = Layout((TensorSpec("w", (70,)), TensorSpec("running_var", (2,), role="mean"), *extra))
    weights, base = rng.normal(size=70).astype(np.float32), rng.normal(size=layout.num_state).astype(np.float32)
    state = base.copy()
    start = 2
    for place, new in enumerate(changed):
        state[start : start + place] += new
        start += place
    encoded = bytes(chosen.encode(weights, seed))
    payload = bytes(append_state(encoded, layout, state, base))
    assert len(payload) <= len(encoded) + max_state_bytes(layout)
    vector, arrived = decode_update(chosen, layout, payload, 70)
    np.testing.assert_array_equal(read_all(vector), read_all(chosen.decode(encoded, 70)))
    assert arrived is not None
    assert set(arrived.latest) == {place for place, new in enumerate(changed) if new and place}
    values = np.concatenate([np.zeros(70, np.float32), base])
    write_state(layout, arrived, values)
    np.testing.assert_array_equal(values[70:], state)
    for cut in (b"", payload[:3], payload[:-1], payload[4:], payload + b"\0"):
        with pytest.raises(RejectedUpdate):
            decode_update(chosen, layout, cut, 70)
    for _ in range(20):
        damaged = bytearray(payload)
        damaged[len(encoded) + int(rng.integers(len(payload) - len(encoded)))] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(RejectedUpdate):
            decode_update(chosen, layout, bytes(damaged), 70)
