"""Every codec: what comes back is as near as promised, in any block, and hostile payloads are refused."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fl_core.codecs import codec, topk
from fl_core.errors import Reason, RejectedUpdate, SpecError
from fl_core.vectors import BLOCK, read_all, read_into

ALL: list[tuple[str, dict[str, Any]]] = [
    ("fp32", {}),
    ("fp16", {}),
    ("bf16", {}),
    ("int8", {"block_size": 16}),
    ("int8", {"block_size": 32_768}),
    ("topk", {"fraction": 0.1}),
    ("topk", {"fraction": 1.0}),
]
HALVES = [("fp16", 2.0**-11, 2.0**-25, 65504.0), ("bf16", 2.0**-8, 2.0**-133, 3.38e38)]

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = arrays(np.float32, st.integers(1, 200), elements=floats)
ordinary = arrays(np.float32, st.integers(1, 200), elements=st.floats(-100, 100, width=32))


def round_trip(name: str, args: dict[str, Any], values: npt.NDArray[np.float32], seed: int = 0) -> Any:
    chosen = codec(name, args)
    return read_all(chosen.decode(bytes(chosen.encode(values, seed)), values.size))


@pytest.mark.parametrize(("name", "args"), ALL)
def test_blocks_are_parts_of_the_whole(name: str, args: dict[str, Any]) -> None:
    """Reading block by block gives the bits of reading all at once, also for the last, shorter block."""
    values = np.random.default_rng(1).standard_normal(2 * BLOCK + 77).astype(np.float32)
    chosen = codec(name, args)
    payload = chosen.encode(values, 3)
    assert memoryview(payload).nbytes <= chosen.max_payload_bytes(values.size)
    vector = chosen.decode(payload, values.size)
    whole = np.array(read_all(vector))
    assert whole.shape == values.shape
    for start in range(0, values.size, BLOCK):
        block = np.full(min(BLOCK, values.size - start), np.nan, np.float32)
        read_into(block, vector, start)
        np.testing.assert_array_equal(block.view(np.uint32), whole[start : start + block.size].view(np.uint32))
        read_into(block, vector, start, 0.3)
        np.testing.assert_allclose(block, np.float32(0.3) * whole[start : start + block.size], rtol=2.0**-22)
    part = np.empty(5, np.float32)
    read_into(part, vector, BLOCK)
    np.testing.assert_array_equal(part, whole[BLOCK : BLOCK + 5])


@pytest.mark.parametrize(("name", "args"), ALL)
@given(values=vectors, seed=st.integers(0, 2**63 - 1))
def test_same_seed_same_bytes(name: str, args: dict[str, Any], values: npt.NDArray[np.float32], seed: int) -> None:
    """A payload is a function of the vector and the seed, and the vector is left as it was."""
    before = values.copy()
    first = bytes(codec(name, args).encode(values, seed))
    assert first == bytes(codec(name, args).encode(values, seed))
    np.testing.assert_array_equal(values.view(np.uint32), before.view(np.uint32))


@pytest.mark.parametrize(("name", "relative", "absolute", "largest"), HALVES)
@given(values=vectors)
def test_halves_round_to_nearest(
    name: str, relative: float, absolute: float, largest: float, values: npt.NDArray[np.float32]
) -> None:
    """The error is half a unit in the last place, or half the smallest subnormal number."""
    values = values[np.abs(values) <= largest]
    error = np.abs(round_trip(name, {}, values).astype(np.float64) - values)
    assert (error <= np.maximum(relative * np.abs(values.astype(np.float64)), absolute)).all()


@given(bits=st.integers(0, 2**16 - 1))
def test_what_fits_a_half_comes_back_exactly(bits: int) -> None:
    """Every fp16 and every bf16 number is its own image; NaN stays NaN."""
    half = np.array([bits], np.uint16).view(np.float16).astype(np.float32)
    brain = np.array([bits << 16], np.uint32).view(np.float32)
    np.testing.assert_array_equal(round_trip("fp16", {}, half), half)
    np.testing.assert_array_equal(round_trip("bf16", {}, brain), brain)


def test_bf16_rounds_ties_to_even() -> None:
    """A number half-way between two goes to the one whose last bit is 0."""
    values = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0xFFFFFFFF], np.uint32).view(np.float32)
    decoded = round_trip("bf16", {}, values).view(np.uint32)
    assert decoded[:3].tolist() == [0x3F800000, 0x3F820000, 0x3F810000]
    assert np.isnan(decoded[3:].view(np.float32)).all()


def test_beyond_fp16_is_visible() -> None:
    """A magnitude above 65504 becomes infinite, so that admission refuses it; it is not changed in silence."""
    assert np.isinf(round_trip("fp16", {}, np.array([1e6], np.float32))).all()


@given(values=vectors, seed=st.integers(0, 2**32), block_size=st.sampled_from([16, 64, 1024]))
def test_int8_errs_by_less_than_a_step(values: npt.NDArray[np.float32], seed: int, block_size: int) -> None:
    """Each element is within one step, its block's largest magnitude by 127, of where it was."""
    values = np.clip(values, -1e38, 1e38)  # 127 times a scale must not overflow
    decoded = round_trip("int8", {"block_size": block_size}, values, seed).astype(np.float64)
    for start in range(0, values.size, block_size):
        block = values[start : start + block_size].astype(np.float64)
        step = max(np.abs(block).max() / 127, 2.0**-126)
        assert (np.abs(decoded[start : start + block_size] - block) <= step * (1 + 1e-5)).all()


def test_int8_is_unbiased() -> None:
    """Over many seeds the mean of what comes back is the vector, within five standard errors."""
    values = np.concatenate([np.linspace(-1, 1, 61), [0.3, 1e-4, -1e-4]]).astype(np.float32)
    num_seeds = 4000
    total, chosen = np.zeros(values.size), codec("int8", {"block_size": 64})
    for seed in range(num_seeds):
        total += read_all(chosen.decode(chosen.encode(values, seed), values.size))
    step = 1 / 127
    fraction = np.abs(values) / step % 1
    deviation = step * np.sqrt(fraction * (1 - fraction) / num_seeds)
    assert (np.abs(total / num_seeds - values) <= 5 * deviation + step * 2.0**-17).all()
    assert np.abs(total / num_seeds - values).max() > 0  # rounding did happen


@given(values=ordinary, fraction=st.sampled_from([0.01, 0.25, 0.5, 1.0]))
def test_topk_keeps_the_largest(values: npt.NDArray[np.float32], fraction: float) -> None:
    """k elements come back exactly, the others as 0, and none of the others was larger."""
    decoded = round_trip("topk", {"fraction": fraction}, values)
    count = codec("topk", {"fraction": fraction}).max_payload_bytes(values.size) // 8
    assert count == min(values.size, int(np.ceil(fraction * values.size)))
    best = np.sort(np.abs(values))[::-1][:count]
    np.testing.assert_array_equal(np.sort(np.abs(decoded))[::-1][:count], best)
    kept = decoded != 0
    np.testing.assert_array_equal(decoded[kept], values[kept])


@pytest.mark.parametrize("kind", ["normal", "tied", "misleading", "nan"])
@pytest.mark.parametrize("fraction", [1e-5, 0.003, 0.11, 0.2])
def test_topk_of_a_large_vector_is_exact(kind: str, fraction: float) -> None:
    """A sample finds the candidates; also where it misleads, the places are those of a full sort, ties to the first."""
    values = np.random.default_rng(0).standard_normal(150_001).astype(np.float32)
    match kind:
        case "tied":
            values = np.round(values)
        case "misleading":
            values[:] = 0
            values[:: topk._SAMPLE_STRIDE] = 1
        case "nan":
            values[::3] = np.nan
    count = int(np.ceil(fraction * values.size))
    magnitudes = np.where(np.isnan(values), np.inf, np.abs(values))
    expected = np.sort(np.argsort(-magnitudes, kind="stable")[:count])
    payload = codec("topk", {"fraction": fraction}).encode(values, 0)
    np.testing.assert_array_equal(np.frombuffer(payload, "<u4", count=count), expected)


@pytest.mark.parametrize(("name", "args"), ALL)
@given(payload=st.binary(max_size=300), num_elements=st.integers(0, 100))
def test_any_bytes_are_read_or_refused(name: str, args: dict[str, Any], payload: bytes, num_elements: int) -> None:
    """Bytes from anywhere give a vector of the right size or a rejection, and no other exception."""
    try:
        vector = codec(name, args).decode(payload, num_elements)
    except RejectedUpdate as error:
        assert error.reason in (Reason.MALFORMED, Reason.NOT_FINITE)
    else:
        assert read_all(vector).shape == (num_elements,)


@pytest.mark.parametrize(("name", "args"), ALL)
@pytest.mark.parametrize("change", [-1, 1, 8])
def test_other_lengths_are_malformed(name: str, args: dict[str, Any], change: int) -> None:
    """A payload that is too short or too long is refused before anything is made of it."""
    chosen = codec(name, args)
    payload = bytes(chosen.encode(np.ones(100, np.float32), 0)) + bytes(8)
    payload = payload[: len(payload) - 8 + change]
    with pytest.raises(RejectedUpdate, match="bytes") as caught:
        chosen.decode(payload, 100)
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    ("scale", "reason"), [(np.nan, Reason.NOT_FINITE), (np.inf, Reason.NOT_FINITE), (-1.0, Reason.MALFORMED)]
)
def test_int8_refuses_bad_scales(scale: float, reason: Reason) -> None:
    """NaN, infinite and negative scales never reach a merge."""
    payload = bytearray(codec("int8").encode(np.ones(2000, np.float32), 0))
    payload[4:8] = np.float32(scale).tobytes()
    with pytest.raises(RejectedUpdate) as caught:
        codec("int8").decode(bytes(payload), 2000)
    assert caught.value.reason is reason


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("name", "args"), ALL)
def test_what_is_not_finite_stays_so(name: str, args: dict[str, Any], bad: float) -> None:
    """A device whose training diverged cannot hide it behind a codec."""
    values = np.ones(100, np.float32)
    values[7] = bad
    chosen = codec(name, args)
    try:
        decoded = read_all(chosen.decode(bytes(chosen.encode(values, 0)), 100))
    except RejectedUpdate as error:
        assert error.reason is Reason.NOT_FINITE
    else:
        assert not np.isfinite(decoded).all()


@pytest.mark.parametrize("places", [[5, 5], [5, 4], [5, 20], [2**32 - 1, 0]])
def test_topk_refuses_places_that_do_not_rise(places: list[int]) -> None:
    """A place twice, out of order or outside of the vector is malformed."""
    payload = np.array(places, "<u4").tobytes() + np.ones(2, "<f4").tobytes()
    with pytest.raises(RejectedUpdate, match="places") as caught:
        codec("topk", {"fraction": 0.1}).decode(payload, 20)
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize(("name", "args"), ALL)
def test_decoding_takes_no_memory_of_the_model_s_size(name: str, args: dict[str, Any]) -> None:
    """Checking a payload and reading it in blocks takes a small part of the vector's memory."""
    size = 64 * BLOCK
    chosen = codec(name, args)
    payload = memoryview(bytearray(chosen.encode(np.ones(size, np.float32), 0)))
    scratch = np.empty(BLOCK, np.float32)
    read_into(scratch, chosen.decode(payload, size), 0)  # imports are made
    tracemalloc.start()
    vector = chosen.decode(payload, size)
    for start in range(0, size, BLOCK):
        read_into(scratch, vector, start)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes <= 4 * size * 0.3  # int8 copies a scale per 16 elements; topk compares its places in pairs


def test_settings_of_another_codec_are_refused() -> None:
    """A task whose codec and settings do not fit is an error that names them."""
    with pytest.raises(SpecError, match=r"'fp16' does not take \{'fraction': 0.5\}"):
        codec("fp16", {"fraction": 0.5})
