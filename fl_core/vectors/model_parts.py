"""The parts of a model that can be trained and sent on their own: groups of whole tensors of a layout.

Parts are numbered from 1; part 0 is the whole model. They may overlap, and need not cover the model: what is in no part
is never trained (a frozen body under a trained head).
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

from fl_core.errors import SpecError
from fl_core.vectors import FloatArray
from fl_core.vectors.layout import Layout


class Parts:
    """Which tensors each part has.

    Args:
        layout: the weights' (``Layout.weights``); buffers travel with every part.
        groups: for each part the beginnings of its tensors' names, or patterns such as ``*.lora_*``.

    Raises:
        SpecError: a group has no trainable tensor.

    >>> from fl_core.vectors.tensor_spec import TensorSpec
    >>> tensors = TensorSpec("body.weight", (2, 2)), TensorSpec("head.weight", (2,)), TensorSpec("head.bias", ())
    >>> layout = Layout(tensors)
    >>> parts = Parts(layout, [["body."], ["head."]])
    >>> parts.count, parts.num_elements(0), parts.num_elements(2)
    (2, 7, 3)
    >>> parts.gather(np.arange(7, dtype=np.float32), 2).tolist()
    [4.0, 5.0, 6.0]
    """

    def __init__(self, layout: Layout, groups: Sequence[Sequence[str]]) -> None:
        self._layout = layout
        everything = tuple(range(len(layout.tensors)))
        self._tensors = [everything]
        for number, group in enumerate(groups, start=1):
            chosen = tuple(i for i in everything if _matches(layout.tensors[i].name, group))
            if not chosen:
                names = ", ".join(repr(spec.name) for spec in layout.tensors)
                raise SpecError(
                    f"training.method_args.groups: part {number} = {list(group)!r} matches no trainable tensor; "
                    f"the model has {names:.300}."
                )
            self._tensors.append(chosen)

    @classmethod
    def even(cls, layout: Layout, count: int) -> Parts:
        """Parts of about the same size, of neighbouring tensors.

        Raises:
            SpecError: there are fewer tensors than parts.

        >>> from fl_core.vectors.tensor_spec import TensorSpec
        >>> layout = Layout(tuple(TensorSpec(f"{i}.weight", (size,)) for i, size in enumerate((4, 1, 1, 2))))
        >>> [Parts.even(layout, 2).num_elements(part) for part in (1, 2)]
        [4, 4]
        """
        num_tensors = len(layout.tensors)
        if num_tensors < count:
            raise SpecError(
                f"training.method_args.num_parts = {count} is more than the model has trainable tensors, "
                f"{num_tensors}; lower it."
            )
        groups: list[list[int]] = [[]]
        filled = 0
        for index, spec in enumerate(layout.tensors):
            missing = count - len(groups)
            wanted = layout.num_parameters * len(groups) / count
            if groups[-1] and missing and (num_tensors - index <= missing or filled + spec.num_elements / 2 > wanted):
                groups.append([])
            groups[-1].append(index)
            filled += spec.num_elements
        parts = cls(layout, ())
        parts._tensors += [tuple(group) for group in groups]
        return parts

    @property
    def count(self) -> int:
        """How many parts there are, the whole not counted."""
        return len(self._tensors) - 1

    def tensors(self, part: int) -> tuple[int, ...]:
        """The places of a part's tensors in the layout, rising."""
        return self._tensors[part]

    def names(self, part: int) -> frozenset[str]:
        """The names of a part's tensors."""
        return frozenset(self._layout.tensors[i].name for i in self._tensors[part])

    def num_elements(self, part: int) -> int:
        """How many elements a part has."""
        return sum(self._layout.tensors[i].num_elements for i in self._tensors[part])

    def gather(self, values: FloatArray, part: int) -> FloatArray:
        """A part of a whole vector, as a new vector."""
        slices = self._layout.slices
        return np.concatenate([values[slices[i]] for i in self._tensors[part]])


def _matches(name: str, group: Sequence[str]) -> bool:
    return any(name.startswith(pattern) or fnmatchcase(name, pattern) for pattern in group)
