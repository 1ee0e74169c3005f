"""Merging what is still encoded: the same sum as decoding first, without a second vector of the model's size."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fl_core.aggregation import Contribution, Strategy, build_strategy
from fl_core.codecs import codec
from fl_core.errors import InvariantError, SpecError
from fl_core.spec import CampaignSpec, parse_spec
from fl_core.vectors import Delta, Parameters, Vector, read_all
from fl_core.vectors.arithmetic import BLOCK, add_scaled, mix, norm_and_finite, peak, scale_into
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

CODECS: list[tuple[str, dict[str, Any]]] = [
    ("fp32", {}), ("fp16", {}), ("bf16", {}), ("int8", {"block_size": 64}), ("topk", {"fraction": 0.2}),
]  # fmt: skip
SIZE = 2 * BLOCK + 333


def encoded(name: str, args: dict[str, Any], size: int = SIZE) -> tuple[Vector, npt.NDArray[np.float64]]:
    """A vector as it arrives, and its decoded values in float64."""
    values = np.random.default_rng(5).standard_normal(size).astype(np.float32)
    chosen = codec(name, args)
    vector = chosen.decode(memoryview(bytearray(chosen.encode(values, 1))), size)
    return vector, np.array(read_all(vector), np.float64)


@pytest.mark.parametrize(("name", "args"), CODECS)
@pytest.mark.parametrize("weight", [1.0, 0.3, 1e-3])
def test_kernels_decode_as_they_go(name: str, args: dict[str, Any], weight: float) -> None:
    """Adding, mixing and scaling give the formula's values to float32's precision."""
    vector, decoded = encoded(name, args)
    start = np.random.default_rng(6).standard_normal(SIZE).astype(np.float32)
    added, mixed, scaled = start.copy(), start.copy(), np.empty_like(start)
    add_scaled(added, vector, weight)
    mix(mixed, vector, weight)
    scale_into(scaled, vector, weight)
    np.testing.assert_allclose(added, start + weight * decoded, rtol=0, atol=1e-6)
    np.testing.assert_allclose(mixed, (1 - weight) * start.astype(np.float64) + weight * decoded, rtol=0, atol=1e-6)
    np.testing.assert_allclose(scaled, weight * decoded, rtol=3e-7)


@pytest.mark.parametrize(("name", "args"), CODECS)
def test_a_repeated_merge_gives_the_same_bits(name: str, args: dict[str, Any]) -> None:
    """The same payload and weight give the same bits, as a replay of the log needs."""
    vector, _ = encoded(name, args)
    one, other = np.ones(SIZE, np.float32), np.ones(SIZE, np.float32)
    add_scaled(one, vector, 0.7)
    add_scaled(other, encoded(name, args)[0], 0.7)
    np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))


@pytest.mark.parametrize(("name", "args"), CODECS)
def test_peak_and_norm_of_what_is_encoded(name: str, args: dict[str, Any]) -> None:
    """Admission's figures are those of the decoded vector."""
    vector, decoded = encoded(name, args)
    base = np.ones(SIZE, np.float32)
    assert peak(vector) == np.abs(decoded).max()
    assert norm_and_finite(vector) == pytest.approx(np.sqrt((decoded**2).sum()), rel=1e-12)
    assert norm_and_finite(vector, minus=base) == pytest.approx(np.sqrt(((decoded - 1) ** 2).sum()), rel=1e-12)


@given(arrays(np.float32, st.integers(0, 80), elements=st.floats(width=32)))
def test_peak_is_finite_exactly_when_all_elements_are(values: npt.NDArray[np.float32]) -> None:
    """NaN and infinities are found wherever they are; without them the peak is the largest magnitude."""
    if np.isfinite(values).all():
        assert peak(values) == np.abs(values).max(initial=0)
    else:
        assert not math.isfinite(peak(values))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, SIZE - 1])
def test_peak_finds_one_bad_element(bad: float, place: int) -> None:
    """One element among many, in any block."""
    values = np.zeros(SIZE, np.float32)
    values[place] = bad
    assert not math.isfinite(peak(values))


@pytest.mark.parametrize("kernel", [add_scaled, mix, scale_into])
def test_an_encoded_vector_of_another_size_is_a_bug(kernel: Any) -> None:
    """Sizes that differ are never merged in part."""
    with pytest.raises(InvariantError, match="met in one merge"):
        kernel(np.zeros(SIZE + 1, np.float32), encoded("int8", {})[0], 1.0)


def strategy_of(name: str, size: int) -> Any:
    layout = Layout((TensorSpec("w", (size,)),))
    document: dict[str, Any] = {"model": {"factory": "a:b"}, "aggregation": {"strategy": name}}
    if name == "fadas":
        document["server_optimizer"] = {"learning_rate": 0.01}
    return build_strategy(CampaignSpec.model_validate(document), layout, Parameters(np.zeros(size, np.float32)))


@pytest.mark.parametrize("name", ["fedbuff", "fedasync", "fadas", "attention", "fedatt"])
@pytest.mark.parametrize(("codec_name", "args"), CODECS)
def test_a_strategy_merges_an_encoded_update_in_little_memory(name: str, codec_name: str, args: dict[str, Any]) -> None:
    """An offer takes no memory of the model's size beside what the strategy holds already."""
    size = 64 * BLOCK
    vector, _ = encoded(codec_name, args, size)
    strategy = strategy_of(name, size)
    contribution = Contribution(Parameters(vector) if name == "fedasync" else Delta(vector), 1, 0, "worker")
    strategy.offer(contribution)
    tracemalloc.start()
    strategy.offer(contribution)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 8 * 4 * BLOCK


def test_a_user_s_strategy_can_decode() -> None:
    """``values`` is the whole vector, whichever codec it came in."""
    vector, decoded = encoded("bf16", {})
    np.testing.assert_array_equal(Delta(vector).values, decoded)
    np.testing.assert_array_equal(Parameters(vector).values, decoded)


class _OwnStrategy(Strategy):
    sends = "parameters"

    def offer(self, contribution: Contribution) -> None: ...


def test_topk_is_for_deltas(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strategy that merges parameters refuses topk, a user's own one as well as FedAsync."""
    with pytest.raises(SpecError, match="'topk' is for deltas, and strategy 'fedasync' merges parameters"):
        parse_spec({"model": {"factory": "a:b"}, "aggregation": {"strategy": "fedasync"}, "codec": {"name": "topk"}})
    spec = parse_spec({"model": {"factory": "a:b"}, "aggregation": {"strategy": "my:own"}, "codec": {"name": "topk"}})
    monkeypatch.setattr("fl_core.aggregation.build.resolve", lambda *_: _OwnStrategy)
    with pytest.raises(SpecError, match="topk"):
        build_strategy(spec, Layout((TensorSpec("w", (1,)),)), Parameters(np.zeros(1, np.float32)))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "topk", "fraction": 0.0}, "codec.fraction = 0.0 is not accepted; input should be greater than 0"),
        ({"name": "topk", "fraction": 1.5}, "codec.fraction = 1.5 is not accepted; input should be less than or"),
        ({"name": "int8", "block_size": 1000}, "codec.block_size = 1000 is not accepted; it must be a power of two; u"),
        ({"name": "int8", "block_size": 65536}, "codec.block_size = 65536 is not accepted; input should be less than"),
        ({"name": "int8", "blocksize": 64}, "unknown key 'codec.blocksize'; did you mean 'block_size'?"),
    ],
)
def test_bad_codec_settings_are_refused_in_one_sentence(section: dict[str, Any], message: str) -> None:
    """The sentence names the key, the value and what would do."""
    with pytest.raises(SpecError) as caught:
        parse_spec({"model": {"factory": "a:b"}, "codec": section})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("section", "args"),
    [
        ({}, {}),
        ({"name": "bf16", "fraction": 0.5}, {}),
        ({"name": "int8", "block_size": 256}, {"block_size": 256}),
        ({"name": "topk", "fraction": 0.05}, {"fraction": 0.05, "importance": "magnitude"}),
    ],
)
def test_a_codec_gets_its_own_settings(section: dict[str, Any], args: dict[str, Any]) -> None:
    """Coordinator and device build the codec from the same name and arguments."""
    spec = parse_spec({"model": {"factory": "a:b"}, "codec": section})
    assert spec.codec.args == args
    assert codec(spec.codec.name, spec.codec.args).name == spec.codec.name
