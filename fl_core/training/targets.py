"""Which dimension of an output holds the classes, and which numbers of output and target belong together.

Losses, metrics and distillation all ask here, so all of them use the same axis. If the shapes leave it open, the loss
is refused until ``training.class_dim`` is set; nothing is guessed.
"""

from __future__ import annotations

from torch import Tensor

from fl_core.errors import DataError, SpecError

IGNORED = -100
"""torch's mark of a target that does not count."""


def class_axis(output: Tensor, target: Tensor, class_dim: int | None) -> int:
    """The dimension of ``output`` that holds the classes: 1, torch's order, or -1.

    Args:
        output: ``(batch, classes)``, ``(batch, classes, ...)`` or ``(batch, ..., classes)``.
        target: class numbers, of ``output``'s shape without the classes; or probabilities, of ``output``'s shape.
        class_dim: ``training.class_dim``; None where the shapes say it.

    Raises:
        DataError: the shapes fit neither order.
        SpecError: they fit both.
    """
    shape, wanted = tuple(output.shape), tuple(target.shape)
    if len(shape) == 2 and wanted in (shape, shape[:1]):
        return 1
    fits = [dim for dim in (1, -1) if len(shape) > 2 and wanted in (shape, _without(shape, dim))]
    if class_dim is not None and class_dim in fits:
        return class_dim
    if not fits or class_dim is not None:
        said = f" with training.class_dim = {class_dim}" if class_dim is not None else ""
        raise DataError(
            f"The model's output has shape {shape} and the target {wanted}{said}; the target's is the output's without "
            "the dimension of the classes, which is 1 or the last."
        )
    if len(fits) > 1:
        raise SpecError(
            f"The model's output of shape {shape} and a target of {wanted} leave open which dimension holds the "
            "classes; set training.class_dim = 1 (torch's order) or training.class_dim = -1 (the last)."
        )
    return fits[0]


def _without(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return shape[:1] + shape[2:] if dim == 1 else shape[:-1]


def class_targets(output: Tensor, target: Tensor) -> Tensor:
    """A target as cross-entropy takes it: int64 class numbers, or probabilities of ``output``'s shape and dtype.

    Any integer type is a class number, and so is a target with a dimension of 1 where the output has the classes.

    Raises:
        DataError: it is neither.
    """
    if target.is_floating_point():
        if target.shape == output.shape and output.ndim > 1:
            return target.to(output.dtype)
        raise DataError(
            f"The target is {_dtype(target)} of shape {tuple(target.shape)} and the model's output has shape "
            f"{tuple(output.shape)}; return class numbers as integers, or probabilities of the output's shape. Numbers "
            "to be predicted have training.loss = 'mse' or 'l1'."
        )
    if target.ndim == output.ndim and target.shape != output.shape:
        for dim in (1, -1):
            squeezed = target.squeeze(dim)
            if squeezed.ndim < output.ndim and tuple(squeezed.shape) == _without(tuple(output.shape), dim):
                return squeezed.long()
    return target.long()


def class_rows(output: Tensor, axis: int) -> Tensor:
    """An output as ``(num, classes)``, in the order of the flattened target."""
    return output if output.ndim == 2 else output.movedim(axis, -1).flatten(0, -2)


def same_shape(name: str, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Output and target of an elementwise loss, in one shape and in the output's dtype.

    torch would broadcast (n, 1) against (n,) to (n, n): a loss that falls, of a model that learns nothing.

    Raises:
        DataError: the shapes differ in more than a last dimension of 1.
    """
    if output.shape == (*target.shape, 1):
        output = output.squeeze(-1)
    elif target.shape == (*output.shape, 1):
        target = target.squeeze(-1)
    if output.shape != target.shape:
        raise DataError(
            f"training.loss = {name!r}: the model's output has shape {tuple(output.shape)} and the target "
            f"{tuple(target.shape)}; they must be equal."
        )
    return output, target.to(output.dtype)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
