"""Low-rank adapters: the formula, what is frozen, and that only adapters travel with the method ``partial``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fl_core.errors import SpecError
from fl_core.models import lora
from fl_core.vectors.layout import Layout
from fl_core.vectors.model_parts import Parts

MLP = {"inputs": 5, "hidden": [4], "classes": 3}


def model(**options: object) -> nn.Module:
    """An adapted multi-layer perceptron."""
    torch.manual_seed(0)
    return lora("fl_core.models:mlp", MLP, **options)  # type: ignore[arg-type]


def test_it_starts_as_the_model_itself() -> None:
    """B is 0 at first, so that the adapted model says what the frozen one does."""
    torch.manual_seed(0)
    from fl_core.models import mlp

    plain = mlp(**MLP)  # type: ignore[arg-type]
    x = torch.randn(7, 5)
    torch.manual_seed(0)
    adapted = lora("fl_core.models:mlp", MLP)
    np.testing.assert_array_equal(adapted(x).detach(), plain(x).detach())


def test_an_adapted_layer_is_the_formula() -> None:
    """y = W x + b + (α / r) B A x in float64 numpy."""
    adapted = model(rank=2, alpha=6.0)
    layer = adapted[1]
    with torch.no_grad():
        layer.lora_b.normal_()
    x = torch.randn(3, 5)
    w, b, a, up = (t.detach().double().numpy() for t in (layer.weight, layer.bias, layer.lora_a, layer.lora_b))
    wanted = x.double().numpy() @ w.T + b + 3.0 * (x.double().numpy() @ a.T) @ up.T
    np.testing.assert_allclose(layer(x).detach(), wanted, rtol=1e-5, atol=1e-6)


def test_only_adapters_are_trainable_and_travel() -> None:
    """The layout's trainable part is the adapters, and the one group names exactly them."""
    layout = Layout.of(model(rank=2))
    trainable = {spec.name for spec in layout.tensors if spec.trainable}
    assert trainable == {f"{i}.lora_{letter}" for i in (1, 3) for letter in "ab"}
    parts = Parts(layout, [["*.lora_*"]])
    assert parts.names(1) == trainable
    assert parts.num_elements(1) == 2 * (5 + 4) + 2 * (4 + 3)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"rank": 0}, "rank = 0"), ({"alpha": 0}, "alpha = 0"), ({"alpha": "x"}, "alpha = 'x'")],
)
def test_bad_settings_are_refused(options: dict[str, object], word: str) -> None:
    """One sentence names the setting and its value."""
    with pytest.raises(SpecError, match=word):
        model(**options)


def test_a_model_without_a_linear_layer_is_refused() -> None:
    """There is nothing to adapt."""
    with pytest.raises(SpecError, match="without a linear layer"):
        lora("torch.nn:ReLU")
