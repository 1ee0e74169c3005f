"""Verifies that the model built here is the campaign's: the same tensors, and equal values where they never change."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from fl_core.errors import LayoutError
from fl_core.vectors import FloatArray, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.module_tensors import carried_tensors
from fl_core.wire.digest import Namer, digest

if TYPE_CHECKING:
    import torch


def verify_digest(layout: Layout, expected: str, other: Layout | None = None) -> None:
    """Refuse to go on when a layout is not the expected one.

    Args:
        expected: the digest that it should have.
        other: the layout that belongs to ``expected``, where it is known, so that the error can name the tensor.

    Raises:
        LayoutError: the digests differ.
    """
    if layout.digest == expected:
        return
    difference = _first_difference(other, layout) if other is not None else None
    if difference is None:
        difference = f"the campaign's layout is {expected}, this model's is {layout.digest}"
    raise LayoutError(
        f"The model built here is not the campaign's: {difference}; install the same model code on both sides."
    )


def _first_difference(expected: Layout, actual: Layout) -> str | None:
    for number, (wanted, found) in enumerate(zip_longest(expected.tensors, actual.tensors)):
        if wanted != found:
            return f"tensor {number} should be {wanted or 'absent'} and is {found or 'absent'}"
    return None


def constants_digest(constants: FloatArray, name: Namer = digest) -> str:
    """A name for exactly these values; empty for a model without constants.

    Args:
        constants: float32 ``(num_constants,)``, as at ``Layout.constants``.
        name: of the two digests (``fl_core/wire/digest.py``) the one that is taken of their bytes.
    """
    return name(constants.astype("<f4", copy=False).data) if constants.size else ""


def verify_constants(layout: Layout, module: torch.nn.Module, base: Parameters) -> None:
    """Refuse a model whose training has changed a frozen parameter, or a buffer that is called constant.

    Args:
        module: after local training from ``base``.

    Raises:
        LayoutError: it names the tensor.
    """
    import torch

    tensors = {**dict(module.named_buffers()), **dict(module.named_parameters())}
    for spec, where in zip(layout.tensors, layout.slices, strict=True):
        if spec.role != "constant" or (tensor := tensors.get(spec.name)) is None:
            continue
        values = tensor.detach().to("cpu", torch.float32).numpy().reshape(-1)
        kept = base.values[where]
        if not np.array_equal(values, kept) and not np.array_equal(values, kept, equal_nan=True):
            raise LayoutError(changed_constant(spec.name, frozen=isinstance(tensor, torch.nn.Parameter)))


def verify_trained(layout: Layout, module: torch.nn.Module) -> None:
    """Refuse a model that trains other parameters than when it was built, as those that it makes in its first pass.

    Args:
        module: after local training.

    Raises:
        LayoutError: it names a parameter.
    """
    sent = {spec.name for spec in layout.tensors if spec.trainable}
    for name, tensor in carried_tensors(module):
        if tensor.requires_grad and name not in sent:
            raise LayoutError(trained_later(name))


def trained_later(name: str) -> str:
    """What is said of a parameter that is trained now and was not when the model was built."""
    return (
        f"The parameter {name!r} is trained and was not when the model was built, so it would never be sent; make and "
        "unfreeze parameters in the factory, not in forward or train."
    )


def changed_constant(name: str, *, frozen: bool) -> str:
    """What is said of a constant that training changes."""
    if frozen:
        return (
            f"Training changes the frozen parameter {name!r}, as that of a moving teacher; say what becomes of it, for "
            f'instance model.buffers = {{ "{name}" = "mean" }}.'
        )
    return (
        f"Training changes the buffer {name!r}, which model.buffers calls constant; call it latest, or local if each "
        "task shall start afresh."
    )


def as_held(layout: Layout, module: torch.nn.Module, base: Parameters) -> Parameters:
    """A version as a module holds it that has loaded it, from which the module's changes count.

    Weights in half precision round what they load. If that counted as a change, each device would pull the model back
    onto their grid, and moves smaller than its steps would never add up.
    """
    if not any(spec.trainable and spec.dtype in ("float16", "bfloat16") for spec in layout.tensors):
        return base
    return layout.flatten(module)
