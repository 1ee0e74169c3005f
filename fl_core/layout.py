"""A model's tensors as one flat float32 vector: which tensor lies where, and a digest that names the arrangement.

The vector holds the trainable parameters first, in ``state_dict`` order, then every other floating-point tensor of the
``state_dict``: frozen parameters and buffers such as BatchNorm's running mean and variance. Both halves are contiguous,
so a server optimizer works on the slice ``trainable`` and the rest only takes part in averaging.

Not carried: integer and boolean buffers (BatchNorm's ``num_batches_tracked`` counts local steps, so an average of it
means nothing), non-persistent buffers, which are not in the ``state_dict``, and a module's extra state. A tensor that
several modules share is carried once, under its first name.

The vector is float32 whatever the tensors are: float16 and bfloat16 survive the way there and back exactly, float64 is
rounded.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from fl_core.errors import LayoutError
from fl_core.vectors import FloatArray, Parameters

if TYPE_CHECKING:
    import torch

_DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})
_MAX_DIMENSIONS = 32


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of the layout.

    Attributes:
        name: its key in the ``state_dict``.
        shape: its dimensions; ``()`` is a scalar.
        dtype: the model's own, ``"float32"`` for instance; the vector is float32 in any case.
        trainable: whether devices train it. Frozen parameters and buffers are not trainable.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    trainable: bool = True

    @property
    def num_elements(self) -> int:
        """The product of the dimensions."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        kind = "trainable" if self.trainable else "not trainable"
        return f"{self.name!r} {list(self.shape)} {self.dtype} ({kind})"


@dataclass(frozen=True)
class Layout:
    """Names, shapes and dtypes of all carried tensors, in the order in which the vector holds them.

    Raises:
        LayoutError: nothing is trainable, a name is there twice, or a trainable tensor comes after another kind.

    >>> layout = Layout((TensorSpec("weight", (2, 3)), TensorSpec("running_mean", (3,), trainable=False)))
    >>> layout.num_parameters, layout.num_elements, layout.buffers
    (6, 9, slice(6, 9, None))
    """

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for spec in self.tensors:
            if spec.name in seen:
                raise LayoutError(f"The layout has two tensors named {spec.name!r}; give each its own name.")
            seen.add(spec.name)
        trainable = [spec.trainable for spec in self.tensors]
        if not any(trainable):
            raise LayoutError(
                f"None of the {len(trainable)} tensors is trainable; a model needs a parameter with requires_grad."
            )
        if trainable != sorted(trainable, reverse=True):
            raise LayoutError("A trainable tensor comes after one that is not; put the trainable ones first.")

    @classmethod
    def of(cls, module: torch.nn.Module) -> Layout:
        """The layout of a module as it is now; which parameters are trainable is read from ``requires_grad``.

        Raises:
            LayoutError: a tensor is complex or not yet initialised, or no parameter is trainable.
        """
        specs = [_spec_of(name, tensor) for name, tensor in _carried(module)]
        return cls((*(s for s in specs if s.trainable), *(s for s in specs if not s.trainable)))

    @cached_property
    def num_parameters(self) -> int:
        """How many elements devices train."""
        return sum(spec.num_elements for spec in self.tensors if spec.trainable)

    @cached_property
    def num_elements(self) -> int:
        """How many elements the vector has."""
        return sum(spec.num_elements for spec in self.tensors)

    @property
    def num_bytes(self) -> int:
        """The vector's size in memory."""
        return 4 * self.num_elements

    @property
    def trainable(self) -> slice:
        """Where the trainable elements lie."""
        return slice(0, self.num_parameters)

    @property
    def buffers(self) -> slice:
        """Where the elements lie that are carried but not trained."""
        return slice(self.num_parameters, self.num_elements)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each tensor lies, in the order of ``tensors``."""
        slices = []
        start = 0
        for spec in self.tensors:
            slices.append(slice(start, start + spec.num_elements))
            start += spec.num_elements
        return tuple(slices)

    @cached_property
    def digest(self) -> str:
        """A name for exactly this layout: 32 hex characters (BLAKE2b-128 of its msgpack encoding)."""
        return hashlib.blake2b(msgpack.packb(self.to_map()), digest_size=16).hexdigest()

    def flatten(self, module: torch.nn.Module, out: FloatArray | None = None) -> Parameters:
        """Copy a module's tensors into a vector, from whatever device they are on.

        Args:
            out: float32 of shape ``(num_elements,)`` to be overwritten; new memory otherwise.

        Raises:
            LayoutError: the module lacks a tensor, or has it in another shape.
        """
        import torch

        values = np.empty(self.num_elements, np.float32) if out is None else out
        self._verify_size(values)
        with torch.no_grad():
            for part, tensor in self._pairs(values, module):
                torch.from_numpy(part).copy_(tensor)
        return Parameters(values)

    def load_into(self, module: torch.nn.Module, parameters: Parameters) -> None:
        """Overwrite a module's tensors in place; each keeps its dtype and device.

        Raises:
            LayoutError: the vector has another size, or the module lacks a tensor or has it in another shape.
        """
        import torch

        self._verify_size(parameters.values)
        with torch.no_grad():
            for part, tensor in self._pairs(parameters.values, module):
                if tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64):
                    # By way of numpy, because torch warns about memory that it may not write to, which is what a
                    # decoded payload is.
                    np.copyto(tensor.detach().numpy(), part)
                else:
                    tensor.copy_(torch.from_numpy(part if part.flags.writeable else part.copy()))

    def to_named(self, parameters: Parameters) -> dict[str, FloatArray]:
        """Each tensor's part of the vector by name, in its own shape, float32: views, nothing is copied.

        Raises:
            LayoutError: the vector has another size.
        """
        self._verify_size(parameters.values)
        return {
            spec.name: parameters.values[where].reshape(spec.shape)
            for spec, where in zip(self.tensors, self.slices, strict=True)
        }

    def clamp_variances(self, values: FloatArray) -> None:
        """Raise negative running variances to 0, in place.

        A delta that was measured against an older version can carry a variance below zero, and BatchNorm would then
        take the root of a negative number. NaN stays NaN.
        """
        for where in self._variances:
            part = values[where]
            np.maximum(part, np.float32(0.0), out=part)

    def verify_digest(self, expected: str, other: Layout | None = None) -> None:
        """Refuse to go on when this layout is not the expected one.

        Args:
            expected: the digest that this layout should have.
            other: the layout that belongs to ``expected``, where it is known, so that the error can name the tensor.

        Raises:
            LayoutError: the digests differ.
        """
        if self.digest == expected:
            return
        difference = _first_difference(other, self) if other is not None else None
        if difference is None:
            difference = f"the campaign's layout is {expected}, this model's is {self.digest}"
        raise LayoutError(
            f"The model built here is not the campaign's: {difference}; install the same model code on both sides."
        )

    def to_map(self) -> dict[str, Any]:
        """Plain lists and strings for msgpack; ``from_map`` is the inverse.

        >>> Layout((TensorSpec("weight", (2, 3)),)).to_map()
        {'tensors': [['weight', [2, 3], 'float32', True]]}
        """
        return {"tensors": [[s.name, list(s.shape), s.dtype, s.trainable] for s in self.tensors]}

    @classmethod
    def from_map(cls, document: object) -> Layout:
        """The layout that ``to_map`` wrote; whatever else stands there is refused.

        Raises:
            LayoutError: the form is wrong, or the tensors do not make a layout.
        """
        if not isinstance(document, dict) or set(document) != {"tensors"}:
            raise LayoutError("A layout is a map with the single key 'tensors'; this is something else.")
        rows = document["tensors"]
        if not isinstance(rows, list | tuple):
            raise LayoutError(f"The layout's 'tensors' is a {type(rows).__name__}; it must be a list.")
        return cls(tuple(_spec_from_row(number, row) for number, row in enumerate(rows)))

    @cached_property
    def _variances(self) -> tuple[slice, ...]:
        return tuple(
            where
            for spec, where in zip(self.tensors, self.slices, strict=True)
            if not spec.trainable and spec.name.endswith("running_var")
        )

    def _pairs(self, values: FloatArray, module: torch.nn.Module) -> Iterator[tuple[FloatArray, torch.Tensor]]:
        tensors = dict(_carried(module))
        for spec in self.tensors:
            tensor = tensors.get(spec.name)
            if tensor is None:
                raise LayoutError(f"The model has no tensor {spec}; build it with the campaign's factory.")
            if tuple(tensor.shape) != spec.shape:
                raise LayoutError(
                    f"The model's tensor {spec.name!r} has shape {list(tensor.shape)}; the layout wants {spec}."
                )
        for spec, where in zip(self.tensors, self.slices, strict=True):
            yield values[where].reshape(spec.shape), tensors[spec.name]

    def _verify_size(self, values: FloatArray) -> None:
        if values.shape != (self.num_elements,):
            raise LayoutError(
                f"A vector of shape {list(values.shape)} does not fit a layout of {self.num_elements} elements."
            )


def _carried(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The floating tensors of the ``state_dict``, each once even where several modules share it."""
    import torch

    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor) or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if tensor.is_complex():
            raise LayoutError(f"The tensor {name!r} is complex; hold its real and imaginary parts as two tensors.")
        if tensor.is_floating_point():
            yield name, tensor


def _spec_of(name: str, tensor: torch.Tensor) -> TensorSpec:
    import torch

    if torch.nn.parameter.is_lazy(tensor):
        raise LayoutError(f"The tensor {name!r} has no shape yet; give the lazy module its sizes, or run it once.")
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise LayoutError(f"The tensor {name!r:.80} is {dtype}; a layout carries {', '.join(sorted(_DTYPES))}.")
    trainable = isinstance(tensor, torch.nn.Parameter) and tensor.requires_grad
    return TensorSpec(name, tuple(tensor.shape), dtype, trainable)


def _spec_from_row(number: int, row: object) -> TensorSpec:
    if not isinstance(row, list | tuple) or len(row) != 4:
        raise LayoutError(f"Tensor {number} of the layout is {row!r:.80}; it must be [name, shape, dtype, trainable].")
    name, shape, dtype, trainable = row
    if not isinstance(name, str) or not name:
        raise LayoutError(f"The name of tensor {number} of the layout is {name!r:.80}; it must be text.")
    if not isinstance(shape, list | tuple) or len(shape) > _MAX_DIMENSIONS:
        raise LayoutError(
            f"The shape of {name!r:.80} is {shape!r:.80}; it must be a list of at most {_MAX_DIMENSIONS}."
        )
    if not all(type(size) is int and size >= 0 for size in shape):
        raise LayoutError(f"The shape of {name!r:.80} is {shape!r:.80}; each dimension must be a number from 0.")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise LayoutError(
            f"The dtype of {name!r:.80} is {dtype!r:.80}; it must be one of {', '.join(sorted(_DTYPES))}."
        )
    if not isinstance(trainable, bool):
        raise LayoutError(f"Whether {name!r} is trainable is {trainable!r:.80}; it must be true or false.")
    return TensorSpec(name, tuple(shape), dtype, trainable)


def _first_difference(expected: Layout, actual: Layout) -> str | None:
    for number, (wanted, found) in enumerate(zip_longest(expected.tensors, actual.tensors)):
        if wanted != found:
            return f"tensor {number} should be {wanted or 'absent'} and is {found or 'absent'}"
    return None
