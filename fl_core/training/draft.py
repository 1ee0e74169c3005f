"""A task's changes to its device's memory, held back until the task has produced a finite result."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

import numpy as np

from fl_core.vectors import FloatArray


class Draft(MutableMapping[str, FloatArray]):
    """The vectors that one task writes into a memory; they are kept only if the task produced a finite result.

    A task may meet data that are NaN, or diverge. What it would remember of that would spoil every later task, so its
    vectors are kept together, or not at all if one of them is not finite.

    Args:
        memory: the device's.
    """

    def __init__(self, memory: MutableMapping[str, FloatArray]) -> None:
        self._memory = memory
        self._written: dict[str, FloatArray | None] = {}

    def keep(self, values: FloatArray) -> bool:
        """Keep what the task has written; False if any of it, or what the task sends, is not finite.

        Args:
            values: what is sent.
        """
        written = [vector for vector in self._written.values() if vector is not None]
        if written and not all(bool(np.isfinite(vector).all()) for vector in (*written, values)):
            self._written.clear()
            return False
        for name, vector in self._written.items():
            if vector is not None:
                self._memory[name] = vector
            elif name in self._memory:
                del self._memory[name]
        self._written.clear()
        return True

    def __getitem__(self, name: str) -> FloatArray:
        vector = self._written[name] if name in self._written else self._memory[name]
        if vector is None:
            raise KeyError(name)
        return vector

    def __setitem__(self, name: str, values: FloatArray) -> None:
        """Keep a vector, which must not change until ``keep``."""
        self._written[name] = values

    def __delitem__(self, name: str) -> None:
        self[name]
        self._written[name] = None

    def __iter__(self) -> Iterator[str]:
        names = {*self._memory, *self._written}
        return iter(sorted(name for name in names if self._written.get(name, 0) is not None))

    def __len__(self) -> int:
        return sum(1 for _ in self)
