"""A model's tensors as one flat float32 vector: which tensor lies where, and a digest that names the arrangement.

The vector holds every floating-point tensor of the ``state_dict`` that travels, by role
(``fl_core/vectors/buffers.py``) and within a role in ``state_dict`` order: first the *weights*, which devices train and
strategies merge; then the *state*, buffers that devices change and whose values they send; then the *constants*, which
only travel down. Each third is contiguous.

What is trained and what is carried is the same set, or there is no layout: a parameter outside the ``state_dict`` would
be trained and never sent. Not carried: integer and boolean buffers, non-persistent ones, and a module's extra state. A
tensor that several modules share is carried once, under its first name.

The vector is float32 whatever the tensors are: float16 and bfloat16 survive the way there and back exactly, float64 is
rounded.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from fl_core.errors import LayoutError
from fl_core.vectors import FloatArray, Parameters
from fl_core.vectors.buffers import ROLES, BufferRole, Role, buffer_roles, is_variance

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
        role: what becomes of it, see ``fl_core/vectors/buffers.py``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    role: Role = "weight"

    @property
    def trainable(self) -> bool:
        """Whether devices train it."""
        return self.role == "weight"

    @property
    def num_elements(self) -> int:
        """The product of the dimensions."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.name!r} {list(self.shape)} {self.dtype} ({self.role})"


@dataclass(frozen=True)
class Layout:
    """Names, shapes and dtypes of all carried tensors, in the order in which the vector holds them.

    Raises:
        LayoutError: nothing is trainable, a name is there twice, or the roles are not in their order.

    >>> layout = Layout((TensorSpec("weight", (2, 3)), TensorSpec("running_mean", (3,), role="mean")))
    >>> layout.num_parameters, layout.num_elements, layout.state
    (6, 9, slice(6, 9, None))
    """

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for spec in self.tensors:
            if spec.name in seen:
                raise LayoutError(f"The layout has two tensors named {spec.name!r}; give each its own name.")
            seen.add(spec.name)
        ranks = [ROLES.index(spec.role) for spec in self.tensors]
        if 0 not in ranks:
            raise LayoutError(
                f"None of the {len(ranks)} tensors is trainable; a model needs a parameter with requires_grad."
            )
        if ranks != sorted(ranks):
            raise LayoutError(f"The tensors' roles are not in their order, which is {', '.join(ROLES)}.")

    @classmethod
    def of(cls, module: torch.nn.Module, buffers: Mapping[str, BufferRole] | None = None) -> Layout:
        """The layout of a module as it is now; which parameters are trainable is read from ``requires_grad``.

        Args:
            buffers: the roles that the spec's ``model.buffers`` gives, by pattern of names.

        Raises:
            LayoutError: a tensor is complex or not yet initialised, no parameter is trainable, or one that is is not in
                the ``state_dict``.
        """
        roles = buffer_roles(module, buffers or {})
        carried = list(_carried(module))
        _verify_same_model(module, carried)
        specs = [_spec_of(name, tensor, roles) for name, tensor in carried if roles.get(name) != "local"]
        return cls(tuple(sorted(specs, key=lambda spec: ROLES.index(spec.role))))  # sorting is stable

    @cached_property
    def weights(self) -> Layout:
        """The layout of the trainable tensors alone: what strategies, codecs and norms see."""
        return Layout(tuple(spec for spec in self.tensors if spec.trainable))

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

    @cached_property
    def num_state(self) -> int:
        """How many elements devices send as they are: those of the roles ``mean`` and ``latest``."""
        return sum(spec.num_elements for spec in self.tensors if spec.role in ("mean", "latest"))

    @property
    def state(self) -> slice:
        """Where those lie."""
        return slice(self.num_parameters, self.num_parameters + self.num_state)

    @cached_property
    def means(self) -> slice:
        """Where the elements of the role ``mean`` lie, the first of the state."""
        size = sum(spec.num_elements for spec in self.tensors if spec.role == "mean")
        return slice(self.num_parameters, self.num_parameters + size)

    @cached_property
    def latest(self) -> tuple[slice, ...]:
        """Where the tensors of the role ``latest`` lie within the state."""
        start = self.num_parameters
        return tuple(
            slice(where.start - start, where.stop - start)
            for spec, where in zip(self.tensors, self.slices, strict=True)
            if spec.role == "latest"
        )

    @cached_property
    def variances(self) -> tuple[slice, ...]:
        """Where running variances lie, which are never below 0."""
        return tuple(
            where
            for spec, where in zip(self.tensors, self.slices, strict=True)
            if spec.role == "mean" and is_variance(spec.name)
        )

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

    def state_of(self, module: torch.nn.Module) -> FloatArray:
        """The state's values in a module: float32 ``(num_state,)``, a new array.

        Raises:
            LayoutError: the module lacks a tensor, or has it in another shape.
        """
        import torch

        values = np.empty(self.num_state, np.float32)
        with torch.no_grad():
            for spec, where, tensor in self._tensors_of(module):
                if spec.role in ("mean", "latest"):
                    part = values[where.start - self.num_parameters : where.stop - self.num_parameters]
                    torch.from_numpy(part.reshape(spec.shape)).copy_(tensor)
        return values

    def weights_of(self, module: torch.nn.Module, out: FloatArray | None = None) -> FloatArray:
        """The weights' values in a module.

        Args:
            out: float32 ``(num_parameters,)`` to be overwritten; new memory otherwise.

        Raises:
            LayoutError: the module lacks a tensor, or has it in another shape.
        """
        import torch

        values = np.empty(self.num_parameters, np.float32) if out is None else out
        with torch.no_grad():
            for spec, where, tensor in self._tensors_of(module):
                if spec.trainable:
                    torch.from_numpy(values[where].reshape(spec.shape)).copy_(tensor)
        return values

    def verify_constants(self, module: torch.nn.Module, base: Parameters) -> None:
        """Refuse a model whose training has changed a buffer that the spec's author calls constant.

        Args:
            module: after local training from ``base``.

        Raises:
            LayoutError: it names the buffer.
        """
        buffers = dict(module.named_buffers())
        for spec, where in zip(self.tensors, self.slices, strict=True):
            if spec.role != "constant" or (buffer := buffers.get(spec.name)) is None:
                continue
            values = buffer.detach().float().cpu().numpy().reshape(-1)
            if not np.array_equal(values, base.values[where], equal_nan=True):
                raise LayoutError(
                    f"Training changes the buffer {spec.name!r}, which model.buffers calls constant; call it latest, "
                    "or local if each task shall begin anew."
                )

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
        {'tensors': [['weight', [2, 3], 'float32', 'weight']]}
        """
        return {"tensors": [[s.name, list(s.shape), s.dtype, s.role] for s in self.tensors]}

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

    def _pairs(self, values: FloatArray, module: torch.nn.Module) -> Iterator[tuple[FloatArray, torch.Tensor]]:
        for spec, where, tensor in self._tensors_of(module):
            yield values[where].reshape(spec.shape), tensor

    def _tensors_of(self, module: torch.nn.Module) -> list[tuple[TensorSpec, slice, torch.Tensor]]:
        tensors = dict(_carried(module))
        found = []
        for spec, where in zip(self.tensors, self.slices, strict=True):
            tensor = tensors.get(spec.name)
            if tensor is None:
                raise LayoutError(f"The model has no tensor {spec}; build it with the campaign's factory.")
            if tuple(tensor.shape) != spec.shape:
                raise LayoutError(
                    f"The model's tensor {spec.name!r} has shape {list(tensor.shape)}; the layout wants {spec}."
                )
            found.append((spec, where, tensor))
        return found

    def _verify_size(self, values: FloatArray) -> None:
        if values.shape != (self.num_elements,):
            raise LayoutError(
                f"A vector of shape {list(values.shape)} does not fit a layout of {self.num_elements} elements."
            )


def _carried(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The floating tensors of the ``state_dict``, each once even where several modules share it."""
    import torch

    seen: set[int] = set()
    for name, tensor in _state_dict(module).items():
        if not isinstance(tensor, torch.Tensor) or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if tensor.is_complex():
            raise LayoutError(f"The tensor {name!r} is complex; hold its real and imaginary parts as two tensors.")
        if tensor.is_floating_point():
            yield name, tensor


def _state_dict(module: torch.nn.Module) -> dict[str, Any]:
    try:
        return module.state_dict(keep_vars=True)
    except TypeError as error:
        raise LayoutError(
            f"{type(module).__name__}.state_dict cannot be called as torch's is ({error}); give it the arguments of "
            "torch.nn.Module.state_dict, keep_vars among them."
        ) from error


def _verify_same_model(module: torch.nn.Module, carried: list[tuple[str, torch.Tensor]]) -> None:
    """What devices train and what travels has to be the same set."""
    sent = {id(tensor) for _, tensor in carried}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and id(parameter) not in sent:
            raise LayoutError(
                f"The parameter {name!r} would be trained and never sent: the model's state_dict does not have it; add "
                "it there, or freeze it with requires_grad_(False)."
            )


def _spec_of(name: str, tensor: torch.Tensor, roles: Mapping[str, BufferRole]) -> TensorSpec:
    import torch

    if torch.nn.parameter.is_lazy(tensor):
        raise LayoutError(f"The tensor {name!r} has no shape yet; give the lazy module its sizes, or run it once.")
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise LayoutError(f"The tensor {name!r:.80} is {dtype}; a layout carries {', '.join(sorted(_DTYPES))}.")
    if isinstance(tensor, torch.nn.Parameter):
        return TensorSpec(name, tuple(tensor.shape), dtype, "weight" if tensor.requires_grad else "constant")
    role = roles.get(name, "constant")
    return TensorSpec(name, tuple(tensor.shape), dtype, "constant" if role == "local" else role)


def _spec_from_row(number: int, row: object) -> TensorSpec:
    if not isinstance(row, list | tuple) or len(row) != 4:
        raise LayoutError(f"Tensor {number} of the layout is {row!r:.80}; it must be [name, shape, dtype, role].")
    name, shape, dtype, role = row
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
    if isinstance(role, bool):
        raise LayoutError(
            "The layout was written by a version of fedtide that took buffers for weights; launch the campaign anew."
        )
    if role not in ROLES:
        raise LayoutError(f"The role of {name!r:.80} is {role!r:.80}; it must be one of {', '.join(ROLES)}.")
    return TensorSpec(name, tuple(shape), dtype, role)


def _first_difference(expected: Layout, actual: Layout) -> str | None:
    for number, (wanted, found) in enumerate(zip_longest(expected.tensors, actual.tensors)):
        if wanted != found:
            return f"tensor {number} should be {wanted or 'absent'} and is {found or 'absent'}"
    return None
