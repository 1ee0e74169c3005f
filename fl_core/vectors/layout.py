"""A model's tensors as one flat float32 vector: which tensor lies where, and a digest that names the arrangement.

The vector holds every floating-point tensor of the ``state_dict`` that travels, by role
(``fl_core/vectors/buffers.py``) and within a role in ``state_dict`` order: first the *weights*, which devices train and
strategies merge; then the *state*, buffers that devices change and whose values they send; then the *constants*, which
devices have from their own model or fetch once per campaign. Each third is contiguous.

A layout carries exactly what is trained: a parameter outside the ``state_dict``, which would be trained and never sent,
is refused. Not carried: integer and boolean buffers, non-persistent ones, and a module's extra state. A tensor that
several modules share is carried once, under its first name.

The vector is float32 whatever the tensors are: float16 and bfloat16 survive the way there and back exactly, float64 is
rounded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from fl_core.errors import LayoutError
from fl_core.vectors import FloatArray, Parameters
from fl_core.vectors.buffers import ROLES, BufferRole, buffer_roles, is_variance
from fl_core.vectors.module_tensors import carried_tensors, copy_in, copy_out, spec_of, verify_same_model
from fl_core.vectors.shared_memory import verify_own_memory
from fl_core.vectors.tensor_spec import TensorSpec, spec_from_row

if TYPE_CHECKING:
    import torch


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
                the ``state_dict`` or not in memory of its own.
        """
        roles = buffer_roles(module, buffers or {})
        carried = list(carried_tensors(module))
        verify_same_model(module, carried)
        carried = [(name, tensor) for name, tensor in carried if roles.get(name) != "local"]
        specs = [spec_of(name, tensor, roles) for name, tensor in carried]
        verify_own_memory(carried)
        return cls(tuple(sorted(specs, key=lambda spec: ROLES.index(spec.role))))  # sorting is stable

    @cached_property
    def weights(self) -> Layout:
        """The layout of the trainable tensors alone: what strategies, codecs and norms see."""
        return Layout(tuple(spec for spec in self.tensors if spec.trainable))

    @cached_property
    def num_parameters(self) -> int:
        """How many elements devices train."""
        return sum(spec.num_elements for spec in self.tensors if spec.trainable)

    @property
    def num_moving(self) -> int:
        """How many elements can change: weights and state, which are what a version carries."""
        return self.num_parameters + self.num_state

    @property
    def moving(self) -> slice:
        """Where those lie."""
        return slice(0, self.num_moving)

    @property
    def constants(self) -> slice:
        """Where the rest lies, which is the same on all devices from the first version to the last."""
        return slice(self.num_moving, self.num_elements)

    @cached_property
    def num_elements(self) -> int:
        """How many elements the vector has."""
        return int(self.slices[-1].stop)

    @cached_property
    def names(self) -> frozenset[str]:
        """The tensors' names."""
        return frozenset(spec.name for spec in self.tensors)

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
        ends = list(accumulate(spec.num_elements for spec in self.tensors))
        return tuple(slice(start, end) for start, end in pairwise([0, *ends]))

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
        values = np.empty(self.num_elements, np.float32) if out is None else out
        self._verify_size(values)
        copy_out(module, self.tensors, self._parts(values))
        return Parameters(values)

    def load_into(self, module: torch.nn.Module, parameters: Parameters) -> None:
        """Overwrite a module's tensors in place; each keeps its dtype and device.

        Raises:
            LayoutError: the vector has another size, or the module lacks a tensor or has it in another shape.
        """
        self._verify_size(parameters.values)
        copy_in(module, self.tensors, self._parts(parameters.values))

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
        values = np.empty(self.num_state, np.float32)
        copy_out(module, self.tensors, self._parts(values, self.num_parameters))
        return values

    def weights_of(self, module: torch.nn.Module, out: FloatArray | None = None) -> FloatArray:
        """The weights' values in a module.

        Args:
            out: float32 ``(num_parameters,)`` to be overwritten; new memory otherwise.

        Raises:
            LayoutError: the module lacks a tensor, or has it in another shape.
        """
        values = np.empty(self.num_parameters, np.float32) if out is None else out
        copy_out(module, self.tensors, self._parts(values))
        return values

    def to_map(self) -> dict[str, Any]:
        """Plain lists and strings for msgpack; ``from_map`` is the inverse.

        >>> Layout((TensorSpec("weight", (2, 3)),)).to_map()
        {'tensors': [['weight', [2, 3], 'float32', 'weight']]}
        """
        return {"tensors": [spec.to_row() for spec in self.tensors]}

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
        return cls(tuple(spec_from_row(number, row) for number, row in enumerate(rows)))

    def _parts(self, values: FloatArray, first: int = 0) -> list[FloatArray | None]:
        """Each tensor's part of some elements, in its own shape; None for a tensor that lies outside of them.

        Args:
            values: contiguous elements of the vector.
            first: where they begin in it.
        """
        return [
            values[where.start - first : where.stop - first].reshape(spec.shape)
            if first <= where.start and where.stop <= first + len(values)
            else None
            for spec, where in zip(self.tensors, self.slices, strict=True)
        ]

    def _verify_size(self, values: FloatArray) -> None:
        if values.shape != (self.num_elements,):
            raise LayoutError(
                f"A vector of shape {list(values.shape)} does not fit a layout of {self.num_elements} elements."
            )
