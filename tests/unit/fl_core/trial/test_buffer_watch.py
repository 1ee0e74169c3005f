"""A few steps of training show which buffers move, and which of those cannot be right as they stand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from fl_core.trial.buffer_watch import BufferFinding, BufferWatch
from fl_core.vectors.layout import Layout


class Follower(nn.Module):
    """A student with a teacher that follows it, as in momentum contrast and mean teachers."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Linear(2, 1)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            slow.data = slow.data * 0.9 + (fast.data + 1) * 0.1
        return self.student(x) + self.teacher(x)  # type: ignore[no-any-return]


class Recorder(nn.Module):
    """Buffers that training makes longer, infinite and negative; one that stays, and one that does not travel."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        for name in ("history", "peak", "running_var", "mask", "running_mean"):
            self.register_buffer(name, torch.zeros(2))
        self.register_buffer("cache", torch.zeros(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.history = torch.cat([self.history, x.detach().mean(0)])
        self.peak = self.peak + torch.inf
        self.running_var.sub_(1)
        self.running_mean.add_(1)
        self.cache = torch.zeros(3)
        return self.layer(x)  # type: ignore[no-any-return]


def _findings(model: nn.Module, **said: str) -> dict[str, BufferFinding]:
    layout = Layout.of(model, said)  # type: ignore[arg-type]
    watch = BufferWatch(model, layout, layout.flatten(model))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model.train()(torch.randn(8, 2)).square().mean().backward()
        optimizer.step()
    return {finding.name: finding for finding in watch.findings(model)}


def test_a_teacher_that_follows_needs_a_word() -> None:
    """Frozen parameters that move would begin anew with every task; with a role of their own they are fine."""
    found = _findings(Follower())
    assert found["teacher.weight"].role == "constant"
    assert "changes the frozen parameter 'teacher.weight'" in found["teacher.weight"].problem
    assert '"teacher.*" = "mean"' in found["teacher.weight"].remedy
    assert not any(finding.problem for finding in _findings(Follower(), **{"teacher.*": "mean"}).values())


def test_buffers_that_cannot_be_right_are_named() -> None:
    """Another shape, an infinity, a variance below 0; what stays and what does not travel is no trouble."""
    found = _findings(Recorder())
    assert {name for name, finding in found.items() if finding.problem} == {"history", "peak", "running_var"}
    assert "shape of 'history' from [2] to [6]" in found["history"].problem
    assert found["peak"].problem.endswith("the buffer 'peak' is not finite")
    assert found["running_var"].problem.endswith("merged as a variance, is below 0")
    assert (found["mask"].changed, found["cache"].role, found["running_mean"].role) == (False, "local", "mean")


def test_what_the_author_calls_constant_is_tried() -> None:
    """Before the launch, and not on a device."""
    found = _findings(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), **{"1.running_mean": "constant"})
    assert "which model.buffers calls constant" in found["1.running_mean"].problem
    assert not found["1.running_var"].problem


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4, momentum=None)),
        lambda: nn.utils.spectral_norm(nn.Linear(2, 4)),
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(2, 4)),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 4)),
        lambda: nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4)),
    ],
)
def test_usual_models_have_no_problem(build) -> None:  # type: ignore[no-untyped-def]
    """Statistics and power iterations move, as their roles say."""
    found = _findings(build())
    assert not any(finding.problem for finding in found.values())
    assert all(finding.changed for finding in found.values() if finding.role == "latest")
