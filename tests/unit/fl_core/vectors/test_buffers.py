"""Every buffer has one role, which its module, its name or the spec's author decides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from fl_core.errors import LayoutError
from fl_core.vectors import Parameters
from fl_core.vectors.agreement import verify_constants
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


class Codebook(nn.Module):
    """A vector quantiser whose codebook follows the data by moving averages."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("codebook", torch.ones(4, 2))
        self.register_buffer("cluster_size", torch.zeros(4))
        self.register_buffer("running_total", torch.ones(4, 2))


def _causal_lm() -> nn.Module:
    """As GPT-2 has it: a boolean mask of its own, which the state_dict leaves out, and nothing else."""
    layer = nn.Linear(2, 2)
    layer.register_buffer("bias_mask", torch.ones(1, 1, 4, 4, dtype=torch.bool).tril(), persistent=False)
    layer.register_buffer("masked_bias", torch.tensor(-1e4), persistent=False)
    return layer


def _fake_quantised() -> nn.Module:
    from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver

    return nn.Sequential(nn.Linear(2, 2), FakeQuantize(observer=MovingAverageMinMaxObserver))


def _teacher_and_student() -> nn.Module:
    teacher = nn.Linear(2, 2).requires_grad_(False)
    return nn.ModuleDict({"student": nn.Linear(2, 2), "teacher": teacher})


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
        (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), {}),
        (lambda: nn.LayerNorm(2), {}),
        (lambda: nn.BatchNorm1d(2, momentum=None), {"running_mean": "mean", "running_var": "mean"}),
        (Codebook, {"codebook": "latest", "cluster_size": "latest", "running_total": "latest"}),
        (_causal_lm, {}),
        (
            _fake_quantised,
            {
                "1.scale": "latest",
                "1.activation_post_process.eps": "latest",
                "1.activation_post_process.min_val": "latest",
                "1.activation_post_process.max_val": "latest",
            },
        ),
        (_teacher_and_student, {"teacher.weight": "constant", "teacher.bias": "constant"}),
        (Many, {"mask": "latest", "codebook": "latest", "frozen": "constant"}),
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
    assert _roles(_teacher_and_student(), **{"teacher.*": "mean"})["teacher.weight"] == "mean"
    model = Many()
    local = LocalTensors(model, {spec.name for spec in Layout.of(model, {"frozen": "local"}).tensors})
    with torch.no_grad():
        model.frozen.add_(1)
    local.restore(model)
    assert model.frozen.tolist() == [1.0, 1.0, 1.0]
    nothing = r"'codeboook' fits no floating-point buffer or frozen .* has 'mask', 'codebook', 'cache', 'frozen'"
    with pytest.raises(LayoutError, match=nothing):
        buffer_roles(Many(), {"codeboook": "mean"})


def test_a_constant_that_training_changes_is_named() -> None:
    """The device says which buffer instead of sending a wrong model; -inf and NaN that stay are no change."""
    model = Many()
    model.mask[0, 0] = torch.nan  # type: ignore[index,operator]
    layout = Layout.of(model, {"*": "constant"})
    base = Parameters(layout.flatten(model).values.copy())
    verify_constants(layout, model, base)
    with torch.no_grad():
        model.frozen.add_(1)
    with pytest.raises(LayoutError, match=r"changes the frozen parameter 'frozen', .* say what becomes of it"):
        verify_constants(layout, model, base)
    with torch.no_grad():
        model.frozen.sub_(1)
    model.codebook.add_(1)  # type: ignore[operator]
    with pytest.raises(LayoutError, match=r"changes the buffer 'codebook', which model\.buffers calls constant"):
        verify_constants(layout, model, base)


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
