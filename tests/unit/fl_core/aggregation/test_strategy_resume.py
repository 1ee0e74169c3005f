"""A strategy that is exported anywhere and restored elsewhere goes on to the same bits."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.aggregation import Contribution, Merge, Strategy, build_strategy
from fl_core.errors import CampaignError
from fl_core.spec import parse_spec
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout((TensorSpec("w", (40_000,)), TensorSpec("v", (3,))))
SPECS: dict[str, dict[str, Any]] = {
    "fedavg": {"aggregation": {"strategy": "fedavg"}},
    "fedasync": {"aggregation": {"strategy": "fedasync"}},
    "fedasync bounded": {
        "aggregation": {"strategy": "fedasync", "max_update_norm": 1e9},
        "dispatch": {"concurrency": 3},
    },
    "fedbuff": {"aggregation": {"buffer_size": 3}},
    "fedbuff by examples": {"aggregation": {"buffer_size": 3, "example_weighting": True, "staleness": "hinge"}},
    "fedbuff momentum": {"aggregation": {"buffer_size": 3}, "server_optimizer": {"momentum": 0.9}},
    "fedbuff adam": {"aggregation": {"buffer_size": 3}, "server_optimizer": {"name": "adam", "amsgrad": True}},
    "fedbuff adagrad": {"aggregation": {"buffer_size": 2}, "server_optimizer": {"name": "adagrad"}},
    "fedavg yogi": {"aggregation": {"strategy": "fedavg"}, "server_optimizer": {"name": "yogi"}},
    "fedbuff fedadam": {"aggregation": {"buffer_size": 3}, "server_optimizer": {"name": "fedadam"}},
    "fedbuff fair": {"aggregation": {"buffer_size": 3, "args": {"fairness": 1.0, "fairness_window": 4}}},
    "fadas": {"aggregation": {"strategy": "fadas", "buffer_size": 3}, "server_optimizer": {"learning_rate": 0.01}},
    "fadas corrected": {
        "aggregation": {"strategy": "fadas", "buffer_size": 3, "args": {"bias_correction": True}},
        "server_optimizer": {"learning_rate": 0.01},
    },
    "ca2fl": {"aggregation": {"strategy": "ca2fl", "buffer_size": 3}},
    "ca2fl forgetting": {"aggregation": {"strategy": "ca2fl", "buffer_size": 2, "args": {"max_cached": 2}}},
    "asyncfeded": {"aggregation": {"strategy": "asyncfeded", "args": {"kept_versions": 3}}},
    "attention": {"aggregation": {"strategy": "attention", "buffer_size": 3}},
    "fedatt": {"aggregation": {"strategy": "fedatt", "buffer_size": 3, "args": {"temperature": 50.0}}},
    "fedatt spectral": {"aggregation": {"strategy": "fedatt", "buffer_size": 3, "args": {"norm": "spectral"}}},
    **{
        f"robust {rule}": {
            "aggregation": {"strategy": "robust", "buffer_size": 3, "args": {"rule": rule, "num_byzantine": 0}}
        }
        for rule in ("median", "trimmed_mean", "krum", "multi_krum", "norm_clip", "cosine")
    },
}
NUM_UPDATES = 10


def build(name: str, layout: Layout = LAYOUT) -> Strategy:
    """A strategy of one of the specs, always from the same parameters."""
    spec = parse_spec({"model": {"factory": "m:f"}, **SPECS[name]})
    initial = np.random.default_rng(0).normal(size=layout.num_elements).astype(np.float32)
    return build_strategy(spec, layout, Parameters(initial))


def update_log(strategy: Strategy, seed: int = 1) -> list[Contribution]:
    """Ten updates of the kind that the strategy takes."""
    generator = np.random.default_rng(seed)
    kind = Delta if strategy.sends == "delta" else Parameters
    log = []
    for _ in range(NUM_UPDATES):
        values = generator.normal(size=LAYOUT.num_elements).astype(np.float32)
        staleness = 0 if strategy.barrier else int(generator.integers(0, 20))
        worker, metrics = f"w{generator.integers(0, 5)}", {"loss": float(generator.uniform(0, 3))}
        log.append(Contribution(kind(values), int(generator.integers(1, 100)), staleness, worker, metrics))
    return log


def replay(strategy: Strategy, log: Sequence[Contribution], first: int = 0) -> list[Merge]:
    """Offer the log; with a barrier every fourth update ends a cohort. What is left over is flushed at the end."""
    merges = []
    for number, contribution in enumerate(log, start=first + 1):
        merges.append(strategy.offer(contribution))
        if strategy.barrier and number % 4 == 0:
            merges.append(strategy.flush())
    merges.append(strategy.flush())
    return [merge for merge in merges if merge is not None]


def bits(strategy: Strategy) -> npt.NDArray[np.uint32]:
    """The current parameters as bit patterns."""
    return strategy.parameters.values.view(np.uint32)


@pytest.mark.parametrize("name", SPECS)
def test_replaying_twice_gives_the_same_bits(name: str) -> None:
    """The same log from the same start makes the same merges and the same parameters."""
    one, two = build(name), build(name)
    log = update_log(one)
    assert replay(one, log) == replay(two, log)
    assert one.version == two.version > 0
    np.testing.assert_array_equal(bits(one), bits(two))


@pytest.mark.parametrize("name", SPECS)
@settings(deadline=None, max_examples=8)
@given(pause=st.integers(0, NUM_UPDATES))
def test_restoring_mid_buffer_continues_to_the_same_bits(name: str, pause: int) -> None:
    """Export after any update, through JSON and copies, restore into a used strategy: versions, merges, bits agree."""
    straight, first, resumed = build(name), build(name), build(name)
    log = update_log(straight)
    expected = replay(straight, log)

    merges: list[Merge | None] = []
    for number, contribution in enumerate(log[:pause], start=1):
        merges.append(first.offer(contribution))
        if first.barrier and number % 4 == 0:
            merges.append(first.flush())
    tensors, meta = first.export_state()
    saved = {key: array.copy() for key, array in tensors.items()}
    meta = json.loads(json.dumps(meta))
    replay(resumed, update_log(resumed, seed=7)[:5])  # what it held before must not matter
    resumed.restore_state(saved, meta)
    for array in saved.values():
        array[:] = np.nan
    assert (resumed.version, resumed.buffer_count) == (first.version, first.buffer_count)
    merges += replay(resumed, log[pause:], first=pause)

    assert [merge for merge in merges if merge is not None] == expected
    np.testing.assert_array_equal(bits(resumed), bits(straight))


@pytest.mark.parametrize("name", SPECS)
def test_exported_arrays_are_views(name: str) -> None:
    """Exporting copies nothing: the parameters in it are the strategy's own memory."""
    strategy = build(name)
    replay(strategy, update_log(strategy)[:4])
    tensors, _ = strategy.export_state()
    assert np.shares_memory(tensors["parameters"], strategy.parameters.values)
    assert all(array.dtype == np.float32 for array in tensors.values())
    assert strategy.buffer_count > 0 or "buffer.accumulator" not in tensors


def test_state_of_another_strategy_or_model_is_refused() -> None:
    """Resuming with another strategy, or another model, is an error that says which spec to use."""
    state = build("fedasync").export_state()
    with pytest.raises(CampaignError, match="'fedasync', the spec says 'fedbuff'"):
        build("fedbuff").restore_state(*state)
    with pytest.raises(CampaignError, match="do not fit a model of 2 elements"):
        build("fedasync", Layout((TensorSpec("w", (2,)),))).restore_state(*state)
    with pytest.raises(CampaignError, match="server_optimizer"):
        build("fedbuff").restore_state(*build("fedbuff adam").export_state())
