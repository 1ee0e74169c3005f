"""The built-in models: shapes, variants, and the sentences for arguments that make no model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fl_core.errors import SpecError
from fl_core.models import cnn, mlp


@pytest.mark.parametrize("hidden", [[], [5], [7, 3]])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_mlp_maps_examples_to_classes(hidden: list[int], batch_norm: bool) -> None:
    """An MLP gives one row of logits per example, whatever its hidden layers."""
    model = mlp(inputs=6, hidden=hidden, classes=4, batch_norm=batch_norm, dropout=0.5)
    assert model(torch.randn(3, 6)).shape == (3, 4)


def test_mlp_has_the_layers_that_were_asked_for() -> None:
    """64-[128]-10 has 64*128 + 128 + 128*10 + 10 parameters."""
    model = mlp(inputs=64, hidden=[128], classes=10)
    assert sum(p.numel() for p in model.parameters()) == 9610


def test_mlp_takes_an_image_as_it_is() -> None:
    """An example's dimensions are flattened, so images need no reshaping."""
    model = mlp(inputs=12, hidden=[5], classes=2)
    images = torch.randn(4, 1, 3, 4)
    torch.testing.assert_close(model(images), model(images.reshape(4, 12)))


@pytest.mark.parametrize("options", [{}, {"batch_norm": True}, {"hidden": 9, "dropout": 0.1}, {"filters": [4]}])
def test_cnn_maps_images_to_classes(options: dict[str, Any]) -> None:
    """A CNN gives one row of logits per image, odd sides included."""
    model = cnn(channels=3, height=9, width=7, classes=5, **options)
    assert model(torch.randn(2, 3, 9, 7)).shape == (2, 5)
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == options.get("batch_norm", False)


@pytest.mark.parametrize(
    ("factory", "args", "named"),
    [
        (mlp, {"inputs": 0}, "inputs = 0"),
        (mlp, {"inputs": 6.0}, "inputs = 6.0"),
        (mlp, {"inputs": True}, "inputs = True"),
        (mlp, {"inputs": 6, "classes": -1}, "classes = -1"),
        (mlp, {"inputs": 6, "hidden": 128}, "hidden = 128"),
        (mlp, {"inputs": 6, "hidden": "128"}, "hidden = '128'"),
        (mlp, {"inputs": 6, "hidden": [8, "x"]}, r"hidden\[1\] = 'x'"),
        (mlp, {"inputs": 6, "dropout": 1.0}, "dropout = 1.0"),
        (cnn, {"channels": 1, "height": 3, "width": 8}, "3x8 is too small"),
        (cnn, {"channels": 1, "height": 8, "width": 8, "filters": []}, "filters"),
        (cnn, {"channels": 1, "height": 8, "width": 8, "hidden": 0}, "hidden = 0"),
        (cnn, {"channels": None, "height": 8, "width": 8}, "channels = None"),
    ],
)
def test_bad_arguments_are_named(factory: Any, args: dict[str, Any], named: str) -> None:
    """A factory refuses arguments that make no model, and names the argument and its value."""
    with pytest.raises(SpecError, match=named):
        factory(**args)
