"""From the spec's [model] section to a model."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from fl_core.errors import SpecError
from fl_core.models.build import build_model

ARGS = {"inputs": 5, "hidden": [4], "classes": 3}


def _flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_same_seed_builds_the_same_parameters() -> None:
    """All machines must start from the same bits, and another seed must give others."""
    first, again, other = (_flat(build_model("fl_core.models:mlp", ARGS, seed)) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_building_leaves_the_global_generator_alone() -> None:
    """A program that draws random numbers gets the same ones whether or not it builds a model in between."""
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    build_model("fl_core.models:mlp", ARGS, 7)
    assert torch.equal(torch.rand(4), expected)


def test_a_large_seed_is_fine() -> None:
    """Any seed that a spec may hold is accepted."""
    build_model("fl_core.models:mlp", ARGS, 2**63 - 1)


def test_unknown_arguments_are_a_spec_error() -> None:
    """A misspelt argument names the factory."""
    with pytest.raises(SpecError, match=r"model\.factory.*hiden"):
        build_model("fl_core.models:mlp", {**ARGS, "hiden": [3]}, 0)


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ("text", "returned str"),
        (nn.ReLU(), "without trainable parameters"),
        (nn.Linear(2, 2).requires_grad_(False), "without trainable parameters"),
        (nn.LazyLinear(3), "'weight' has no shape yet"),
    ],
)
def test_what_cannot_be_trained_is_refused(returned: object, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A factory must return a module with at least one trainable parameter of known shape."""
    module = ModuleType("users_models")
    module.make = lambda: returned  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_models", module)
    with pytest.raises(SpecError, match=sentence):
        build_model("users_models:make", {}, 0)


def test_embeddings_with_sparse_gradients_are_made_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proximal term, clipping and second derivatives are not defined for sparse gradients."""
    module = ModuleType("shop_model")
    made = nn.ModuleDict({"a": nn.Embedding(3, 2, sparse=True), "b": nn.EmbeddingBag(3, 2, sparse=True)})
    module.make = lambda: made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop_model", module)
    model = build_model("shop_model:make", {}, 0)
    model["a"](torch.tensor([1])).sum().backward()  # type: ignore[index, operator]
    model["b"](torch.tensor([[1]])).sum().backward()  # type: ignore[index, operator]
    assert all(p.grad is not None and not p.grad.is_sparse for p in model.parameters())
