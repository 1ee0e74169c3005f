"""A strategy that is exported anywhere and restored elsewhere goes on to the same bits."""

from typing import Any

import numpy as np
import pytest

from fedtide.testing import contributions, same_bits
from fl_core.aggregation import Strategy, build_strategy
from fl_core.errors import CampaignError
from fl_core.spec import parse_spec
from fl_core.vectors import Parameters
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
        for rule in (
            "median",
            "trimmed_mean",
            "geometric_median",
            "krum",
            "multi_krum",
            "bulyan",
            "norm_clip",
            "cosine",
        )
    },
}


def build(name: str, layout: Layout = LAYOUT) -> Strategy:
    """A strategy of one of the specs, always from the same parameters."""
    spec = parse_spec({"model": {"factory": "m:f"}, **SPECS[name]})
    initial = np.random.default_rng(0).normal(size=layout.num_elements).astype(np.float32)
    return build_strategy(spec, layout, Parameters(initial))


@pytest.mark.parametrize("name", SPECS)
def test_restoring_mid_buffer_continues_to_the_same_bits(name: str) -> None:
    """Saved after any number of updates, restored into a used strategy: versions, merges and bits agree."""
    same_bits(lambda: build(name))


@pytest.mark.parametrize("name", SPECS)
def test_exported_arrays_are_views(name: str) -> None:
    """Exporting copies nothing: the parameters in it are the strategy's own memory."""
    strategy = build(name)
    for contribution in contributions(strategy, 4):
        strategy.offer(contribution)
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
