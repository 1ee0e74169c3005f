"""Finds untrained tensors that a few steps of training change, and those that cannot be right as they stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fl_core.vectors import Parameters
from fl_core.vectors.agreement import trained_later
from fl_core.vectors.buffers import changed_shape_remedy, is_variance
from fl_core.vectors.layout import Layout
from fl_core.vectors.module_tensors import carried_tensors


@dataclass(frozen=True, slots=True)
class BufferFinding:
    """One buffer, or one frozen parameter.

    Attributes:
        name: as in the model.
        role: in the layout; ``"local"`` where it does not travel.
        changed: training has changed it.
        problem: why the model cannot be right with it, in words that a sentence can end with; empty where it can.
        remedy: what to do about that.
    """

    name: str
    role: str
    changed: bool
    problem: str = ""
    remedy: str = ""


class BufferWatch:
    """Remembers the tensors that are not trained, for a comparison after a few steps of training.

    A role is decided by a buffer's module and name before anything has run (``fl_core/vectors/buffers.py``). Only
    training shows that one which is called constant moves, as a teacher does that follows the trained weights, or that
    one gets another shape with its first batch, as a quantisation's observer of channels does.

    Args:
        model: before training.
        layout: its layout.
        base: its values, float32 ``(num_elements,)``; they are kept, not copied, as a frozen base may be large.
    """

    def __init__(self, model: nn.Module, layout: Layout, base: Parameters) -> None:
        self._roles = {spec.name: spec.role for spec in layout.tensors}
        named = layout.to_named(base)
        self._before = {
            name: torch.from_numpy(named[name]).to(tensor.dtype) if name in named else tensor.detach().clone()
            for name, tensor in _untrained(model)
        }

    def findings(self, model: nn.Module) -> list[BufferFinding]:
        """What became of each of them.

        Args:
            model: the same, after a step or more of training with finite inputs.
        """
        now = dict(_untrained(model))
        found = [self._finding(name, before, now.get(name)) for name, before in self._before.items()]
        sent = {name for name, role in self._roles.items() if role == "weight"}
        later = [name for name, tensor in carried_tensors(model) if tensor.requires_grad and name not in sent]
        thawed = {name for name in later if name in self._before}
        found = [each for each in found if each.name not in thawed]
        return [*found, *(BufferFinding(name, "weight", True, trained_later(name)) for name in later)]

    def _finding(self, name: str, before: Tensor, now: Tensor | None) -> BufferFinding:
        role = self._roles.get(name, "local")
        if now is None:
            return BufferFinding(name, role, True, f"training removes {name!r}", "keep it")
        if role == "local":
            return BufferFinding(name, role, not _same(before, now))
        if now.shape != before.shape:
            return BufferFinding(
                name, role, True,
                f"training changes the shape of {name!r} from {list(before.shape)} to {list(now.shape)}, and what "
                "travels has one shape",
                changed_shape_remedy(name).removeprefix("; "),
            )  # fmt: skip
        if _same(before, now):
            return BufferFinding(name, role, False)
        return BufferFinding(name, role, True, *self._problem(name, role, before, now))

    @staticmethod
    def _problem(name: str, role: str, before: Tensor, now: Tensor) -> tuple[str, str]:
        if role == "constant" and isinstance(now, nn.Parameter):
            return (
                f"training changes the frozen parameter {name!r}, as that of a teacher which follows the trained ones",
                f'say what becomes of it, for instance model.buffers = {{ "{_family(name)}" = "mean" }}',
            )
        if role == "constant":
            return (
                f"training changes the buffer {name!r}, which model.buffers calls constant",
                "call it latest, or local if each task shall start afresh",
            )
        if bool(before.isfinite().all()) and not bool(now.isfinite().all()):
            return f"after two steps of training the buffer {name!r} is not finite", "look at how it is computed"
        if role == "mean" and is_variance(name) and bool((now < 0).any()):
            return (
                f"after two steps of training the buffer {name!r}, which is merged as a variance, is below 0",
                f'say what it is, for instance model.buffers = {{ "{name}" = "latest" }}',
            )
        return "", ""


def _family(name: str) -> str:
    """A pattern for a frozen parameter and those beside it, which move with it.

    >>> _family("teacher.layers.0.weight"), _family("scale")
    ('teacher.*', 'scale')
    """
    first, dot, _ = name.partition(".")
    return f"{first}.*" if dot else first


def _untrained(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_buffers()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            yield name, parameter


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    one, other = one.cpu(), other.detach().cpu()
    return torch.equal(one, other) or bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all())
