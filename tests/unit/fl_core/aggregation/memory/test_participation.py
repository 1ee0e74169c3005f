"""The correction of the bias towards fast devices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation import Contribution, build_strategy
from fl_core.aggregation.memory.participation import Participation
from fl_core.spec import parse_spec
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

arrivals = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=60)


@given(names=arrivals, fairness=st.floats(0.05, 1), limit=st.floats(1.1, 50), window=st.integers(1, 30))
def test_weights_are_the_inverse_shares_of_the_window(
    names: list[str], fairness: float, limit: float, window: int
) -> None:
    """Against a count over the last ``window`` arrivals: (mean share / own share)^fairness, within the limits."""
    participation = Participation(fairness, limit, window)
    for number, name in enumerate(names, start=1):
        recent = names[max(0, number - window) : number]
        ratio = (len(recent) / len(set(recent))) / recent.count(name)
        expected = np.clip(ratio**fairness, 1 / limit, limit)
        assert participation.weight(name) == pytest.approx(expected, rel=1e-12)


@given(names=arrivals)
def test_off_is_one(names: list[str]) -> None:
    """Fairness 0 weighs nothing and remembers nobody."""
    participation = Participation(0.0, 5.0, 10)
    assert [participation.weight(name) for name in names] == [1.0] * len(names)
    assert participation.export_state() == ({}, {"recent": []})


def test_with_exponent_one_a_slow_device_counts_as_much_as_a_fast_one() -> None:
    """Nine updates of the fast device for one of the slow: their total weights become equal."""
    participation = Participation(1.0, 50.0, 1000)
    totals = {"fast": 0.0, "slow": 0.0}
    for number in range(4000):
        name = "slow" if number % 10 == 0 else "fast"
        weight = participation.weight(name)
        if number >= 2000:
            totals[name] += weight
    assert totals["slow"] / totals["fast"] == pytest.approx(1.0, rel=0.02)
    assert sum(totals.values()) / 2000 == pytest.approx(1.0, rel=0.02)  # and steps are as long as before


def test_fedbuff_multiplies_by_it() -> None:
    """The update weight is s(τ) times the worker's, and the version follows it."""
    spec = parse_spec(
        {"model": {"factory": "m:f"}, "aggregation": {"buffer_size": 4, "args": {"fairness": 1.0}}},
    )
    strategy = build_strategy(spec, Layout((TensorSpec("w", (1,)),)), Parameters(np.zeros(1, np.float32)))
    merge = None
    for worker, tau in (("fast", 0), ("fast", 0), ("fast", 0), ("slow", 3)):
        merge = strategy.offer(Contribution(Delta(np.ones(1, np.float32)), 1, tau, worker))
    assert merge is not None
    assert merge.weights == (1.0, 1.0, 1.0, 2.0 * 0.5)
    assert strategy.parameters.values.tolist() == [1.0]
