"""Every buffer has one role, which its module, its name or the spec's author decides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from fl_core.errors import LayoutError
from fl_core.vectors import Parameters
from fl_core.vectors.buffers import LocalTensors, buffer_roles
from fl_core.vectors.layout import Layout


class Many(nn.Module):
    """One of each kind that public models have."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
        self.register_buffer("codebook", torch.ones(2))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("cache", torch.zeros(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


def _roles(module: nn.Module, **said: str) -> dict[str, str]:
    return {spec.name: spec.role for spec in Layout.of(module, said).tensors}  # type: ignore[arg-type]


class FrozenBatchNorm2d(nn.Module):
    """As detection models have it: four buffers, none of which moves."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("running_mean", torch.zeros(2))
        self.register_buffer("running_var", torch.ones(2))


class OwnNorm(FrozenBatchNorm2d):
    """An author's own normalisation."""


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: nn.BatchNorm2d(2), {"running_mean": "mean", "running_var": "mean"}),
        (lambda: nn.SyncBatchNorm(2), {"running_mean": "mean", "running_var": "mean"}),
        (
            lambda: nn.InstanceNorm1d(2, affine=True, track_running_stats=True),
            {"running_mean": "mean", "running_var": "mean"},
        ),
        (OwnNorm, {"running_mean": "mean", "running_var": "mean"}),
        (FrozenBatchNorm2d, {"running_mean": "latest", "running_var": "latest"}),
        (lambda: nn.utils.spectral_norm(nn.Linear(2, 2)), {"weight_u": "latest", "weight_v": "latest"}),
        (
            lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)),
            {"parametrizations.weight.0._u": "latest", "parametrizations.weight.0._v": "latest"},
        ),
        (Many, {"frozen": "constant", "mask": "latest", "codebook": "latest"}),
    ],
)
def test_usual_models_need_no_word(build: Callable[[], nn.Module], expected: dict[str, str]) -> None:
    """Statistics, power iterations, masks, counters and caches of usual modules get the role that fits them."""
    roles = {name: role for name, role in _roles(build()).items() if role != "weight"}
    assert roles == expected


def test_the_author_says_otherwise() -> None:
    """Patterns are tried in their order; a local buffer leaves the layout; one that fits nothing is refused."""
    assert _roles(Many(), codebook="constant")["codebook"] == "constant"
    assert _roles(Many(), **{"c*": "mean", "codebook": "latest"})["codebook"] == "mean"
    assert "codebook" not in _roles(Many(), codebook="local")
    with pytest.raises(LayoutError, match=r"'codeboook' fits no floating-point buffer .* it has 'mask', 'codebook'"):
        buffer_roles(Many(), {"codeboook": "mean"})


def test_a_constant_that_training_changes_is_named() -> None:
    """The device says which buffer instead of sending a wrong model; -inf and NaN that stay are no change."""
    model = Many()
    model.mask[0, 0] = torch.nan  # type: ignore[index,operator]
    layout = Layout.of(model, {"*": "constant"})
    base = Parameters(layout.flatten(model).values.copy())
    layout.verify_constants(model, base)
    model.codebook.add_(1)  # type: ignore[operator]
    with pytest.raises(LayoutError, match=r"changes the buffer 'codebook', which model\.buffers calls constant"):
        layout.verify_constants(model, base)


def test_what_does_not_travel_begins_anew() -> None:
    """Counters, caches and local buffers are as the factory made them at every task, also where training replaced one;
    what travels is left alone."""
    model = nn.Sequential(nn.BatchNorm1d(2, momentum=None), Many())
    local = LocalTensors(model, {spec.name for spec in Layout.of(model).tensors})
    model(torch.randn(5, 2))
    model[1].cache = torch.ones(7)
    model[1].steps.add_(3)
    mean = model[0].running_mean.clone()
    local.restore(model)
    assert (int(model[0].num_batches_tracked), int(model[1].steps)) == (0, 0)
    assert model[1].cache.tolist() == [0.0, 0.0]
    assert torch.equal(model[0].running_mean, mean)


def test_what_is_trained_is_what_travels() -> None:
    """A head outside an author's own state_dict would be trained and never sent: refused, by name."""

    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(2, 2), nn.Linear(2, 2)

        def state_dict(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            whole = super().state_dict(*args, **kwargs)
            return {name: tensor for name, tensor in whole.items() if not name.startswith("head.")}

    with pytest.raises(LayoutError, match=r"'head\.weight' would be trained and never sent"):
        Layout.of(Forgetful())
    frozen = Forgetful()
    frozen.head.requires_grad_(False)
    assert [spec.name for spec in Layout.of(frozen).tensors] == ["body.weight", "body.bias"]

    class Bare(nn.Linear):
        def state_dict(self):  # type: ignore[no-untyped-def,override]
            return {}

    with pytest.raises(LayoutError, match=r"Bare\.state_dict cannot be called as torch's is"):
        Layout.of(Bare(1, 1))


def test_weights_and_state_of_a_module() -> None:
    """They are the two parts of the whole vector that devices send."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    layout = Layout.of(model)
    whole = layout.flatten(model).values
    np.testing.assert_array_equal(layout.weights_of(model), whole[layout.trainable])
    np.testing.assert_array_equal(layout.state_of(model), whole[layout.state])
    assert layout.weights.num_elements == layout.num_parameters == whole.size - layout.num_state
