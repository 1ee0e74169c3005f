"""Merging parts: each tensor's mean over those that brought it, and FedBuff where all bring everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtide.testing import contributions, same_bits
from fl_core.aggregation import Contribution, Strategy, build_strategy
from fl_core.errors import CampaignError, SpecError
from fl_core.spec import parse_spec
from fl_core.vectors import Delta, FloatArray, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout(
    (
        TensorSpec("body.weight", (3, 2)),
        TensorSpec("body.bias", (3,)),
        TensorSpec("head.weight", (4,)),
        TensorSpec("v", (3,)),
    )
)
GROUPS = [["body."], ["head.", "body.bias"]]
TENSORS = {0: (0, 1, 2, 3), 1: (0, 1), 2: (1, 2)}
INITIAL = np.abs(np.random.default_rng(0).normal(size=16)).astype(np.float32) + 5


def _build(strategy: str = "partial", buffer_size: int = 4, **sections: Any) -> Strategy:
    method = {"method": "partial", "method_args": {"groups": GROUPS}} if strategy == "partial" else {}
    document = {
        "model": {"factory": "m:f"}, "training": method,
        "aggregation": {"strategy": strategy, "buffer_size": buffer_size}, **sections,
    }  # fmt: skip
    return build_strategy(parse_spec(document), LAYOUT, Parameters(INITIAL))


def _size(part: int) -> int:
    return sum(LAYOUT.tensors[i].num_elements for i in TENSORS[part])


def _offers(parts: list[int], seed: int) -> list[tuple[FloatArray, int, int]]:
    generator = np.random.default_rng(seed)
    return [
        (generator.normal(size=_size(part)).astype(np.float32), part, int(generator.integers(0, 9))) for part in parts
    ]


def _offer(strategy: Strategy, offer: tuple[FloatArray, int, int]) -> Any:
    values, part, staleness = offer
    return strategy.offer(Contribution(Delta(values.copy()), 10, staleness, "pi", part=part))


@given(st.lists(st.integers(0, 2), min_size=4, max_size=4), st.integers(0, 2**32), st.floats(0.1, 2))
def test_each_tensor_takes_the_mean_of_those_who_brought_it(parts: list[int], seed: int, rate: float) -> None:
    """Against loops in float64, with overlapping parts, staleness weights and a rate; the rest keeps its bits."""
    strategy, offers = _build(server_optimizer={"learning_rate": rate}), _offers(parts, seed)
    merges = [_offer(strategy, offer) for offer in offers]
    expected = INITIAL.astype(np.float64)
    for index, (spec, where) in enumerate(zip(LAYOUT.tensors, LAYOUT.slices, strict=True)):
        total, count = np.zeros(spec.num_elements), 0
        for values, part, staleness in offers:
            start = 0
            for i in TENSORS[part]:
                size = LAYOUT.tensors[i].num_elements
                if i == index:
                    total += values[start : start + size] / np.sqrt(1 + staleness)
                    count += 1
                start += size
        if count:
            expected[where] += rate * total / count
        else:
            assert strategy.parameters.values[where].tolist() == INITIAL[where].tolist()
    np.testing.assert_allclose(strategy.parameters.values, expected, rtol=1e-5, atol=1e-5)
    assert merges[:3] == [None] * 3
    assert (merges[3].version, merges[3].num_updates) == (1, 4)
    assert merges[3].staleness == tuple(staleness for _, _, staleness in offers)
    assert strategy.buffer_count == 0


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_whole_updates_make_it_fedbuff(count: int) -> None:
    """Also when the end flushes a buffer that is not full."""
    partial, fedbuff = _build(), _build("fedbuff")
    for offer in _offers([0] * count, 7):
        _offer(partial, offer)
        _offer(fedbuff, offer)
    partial.flush()
    fedbuff.flush()
    assert partial.version == fedbuff.version
    np.testing.assert_allclose(partial.parameters.values, fedbuff.parameters.values, rtol=1e-6, atol=1e-6)


def test_a_restored_buffer_goes_on_to_the_same_bits() -> None:
    """Exported anywhere, through msgpack, and continued; with whole models and both parts in turn."""
    assert {one.part for one in contributions(_build())} == {0, 1, 2}
    same_bits(_build)


def test_a_foreign_checkpoint_is_refused() -> None:
    """Of another strategy, and of another model."""
    strategy = _build()
    with pytest.raises(CampaignError, match=r"checkpoint is of aggregation.strategy = 'fedbuff'"):
        strategy.restore_state(*_build("fedbuff").export_state())
    tensors, meta = _build().export_state()
    with pytest.raises(CampaignError, match=r"does not fit a model of 16 elements"):
        strategy.restore_state({**tensors, "sum": np.zeros(3, np.float32)}, meta)


def test_sizes_of_parts() -> None:
    """Admission asks how long an update of a part may be; there is no part 3."""
    strategy = _build()
    assert [strategy.update_elements(part) for part in range(4)] == [16, 9, 7, None]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"training": {"method": "local"}}, "strategy = 'partial' merges parts, and training.method = 'local' sends"),
        ({"server_optimizer": {"name": "adam"}}, "would move tensors that no update brought"),
        ({"server_optimizer": {"momentum": 0.5}}, "would move tensors that no update brought"),
        ({"training": {"method": "partial", "method_args": {"groups": [["tail."]]}}}, "matches no trainable tensor"),
    ],
)
def test_what_does_not_fit_is_refused_at_launch(sections: dict[str, Any], said: str) -> None:
    """A method that sends whole models, a server optimizer with a memory, parts that the model has not."""
    with pytest.raises(SpecError) as caught:
        _build(**sections)
    assert said in str(caught.value)


def test_parts_into_a_strategy_for_whole_models_are_refused() -> None:
    """The spec itself says which strategy the method needs, before every update is rejected."""
    with pytest.raises(SpecError, match=r"training.method = 'partial' sends parts of the model, and fedbuff merges"):
        parse_spec({"model": {"factory": "m:f"}, "training": {"method": "partial", "method_args": {"num_parts": 2}}})
