"""CA2FL moves the model by all remembered updates, and by how those in the buffer have changed."""

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation import Contribution, Strategy, build_strategy
from fl_core.spec import parse_spec
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout((TensorSpec("w", (4,)),))
RATE = 0.5
Rows = npt.NDArray[np.float32]
workers = st.lists(st.integers(0, 5), min_size=1, max_size=24)


def build(strategy: str, buffer_size: int, **args: Any) -> Strategy:
    """A strategy that starts from zeros."""
    aggregation = {"strategy": strategy, "buffer_size": buffer_size, "staleness": "constant", "args": args}
    document = {"model": {"factory": "m:f"}, "aggregation": aggregation, "server_optimizer": {"learning_rate": RATE}}
    return build_strategy(parse_spec(document), LAYOUT, Parameters(np.zeros(4, np.float32)))


def deltas(count: int, seed: int) -> Rows:
    """Some updates."""
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def offer_all(strategy: Strategy, rows: Rows, names: list[int]) -> npt.NDArray[np.float32]:
    """Offer them in turn; the parameters then."""
    for row, name in zip(rows, names, strict=True):
        strategy.offer(Contribution(Delta(row), 1, 0, f"w{name}"))
    return strategy.parameters.values


@given(names=workers, buffer_size=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_versions_follow_the_formula(names: list[int], buffer_size: int, seed: int) -> None:
    """Against a float64 loop: h over those who were heard of before the buffer, plus the mean change within it."""
    rows = deltas(len(names), seed)
    x = np.zeros(4)
    last: dict[int, npt.NDArray[np.float64]] = {}
    for start in range(0, len(rows) - buffer_size + 1, buffer_size):
        h = np.mean(list(last.values()), axis=0) if last else np.zeros(4)
        change = np.zeros(4)
        for row, name in zip(rows[start:][:buffer_size].astype(np.float64), names[start:], strict=False):
            change += row - last.get(name, np.zeros(4))
            last[name] = row
        x += RATE * (h + change / buffer_size)
    got = offer_all(build("ca2fl", buffer_size), rows, names)
    np.testing.assert_allclose(got, x, rtol=1e-4, atol=1e-5)


@given(names=workers, buffer_size=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_without_a_cache_it_is_fedbuff(names: list[int], buffer_size: int, seed: int) -> None:
    """``max_cached = 0`` gives FedBuff's bits, with constant weights; and so does a first buffer of newcomers."""
    rows = deltas(len(names), seed)
    fedbuff, bare = build("fedbuff", buffer_size), build("ca2fl", buffer_size, max_cached=0)
    np.testing.assert_array_equal(offer_all(fedbuff, rows, names), offer_all(bare, rows, names))
    first, caching = build("fedbuff", len(names)), build("ca2fl", len(names), max_cached=100)
    everyone = list(range(len(names)))
    np.testing.assert_array_equal(offer_all(first, rows, everyone), offer_all(caching, rows, everyone))


def test_devices_that_always_say_the_same_move_the_model_by_their_common_mean() -> None:
    """Once all are remembered, who is in the buffer makes no difference: the step is the mean over all workers."""
    constant = deltas(4, seed=1)
    strategy = build("ca2fl", 2)
    for name in (0, 1, 2, 3):
        offer_all(strategy, constant[name : name + 1], [name])
    before = strategy.parameters.values.copy()
    offer_all(strategy, constant[[0, 0]], [0, 0])
    np.testing.assert_allclose(strategy.parameters.values - before, RATE * constant.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_whoever_was_silent_for_longest_is_forgotten() -> None:
    """With room for two, the third newcomer takes the place of the first, who no longer moves the model."""
    rows = np.array([[1.0] * 4, [2.0] * 4, [4.0] * 4, [4.0] * 4, [2.0] * 4], np.float32)
    strategy = build("ca2fl", 1, max_cached=2)
    steps = []
    for row, name in zip(rows, [0, 1, 2, 2, 1], strict=True):
        before = strategy.parameters.values[0]
        offer_all(strategy, row[None], [name])
        steps.append(float(strategy.parameters.values[0] - before) / RATE)
    # A newcomer adds its update to the mean of those before: 1, 1 + 2, (only 1's 2 is left) 2 + 4; then no change.
    assert steps == [1.0, 3.0, 6.0, 3.0, 3.0]
    tensors, meta = strategy.export_state()
    assert meta["cache"]["workers"] == ["w2", "w1"]
    assert sum(name.startswith("cache.") for name in tensors) == 2


def test_rounding_errors_do_not_pile_up() -> None:
    """After huge updates that are gone, the step is exact again: nothing of them is left in a running sum."""
    strategy = build("ca2fl", 1, max_cached=3)
    for value in (3e9, 1.1e9, 7e8, 1.0, 1.0, 1.0):
        for name in (0, 1, 2):
            offer_all(strategy, np.full((1, 4), value, np.float32), [name])
    cache = strategy.export_state()[0]
    assert [cache[f"cache.{place}"][0] for place in range(3)] == [1.0, 1.0, 1.0]
    strategy.parameters.values[:] = 0
    offer_all(strategy, np.ones((1, 4), np.float32), [0])
    assert strategy.parameters.values.tolist() == [RATE] * 4
