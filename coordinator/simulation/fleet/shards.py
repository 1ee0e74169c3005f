"""Which examples each device of a large fleet has: drawn from one data set when the device needs them, kept nowhere."""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from coordinator.simulation.fleet.profile import DataSection
from fl_core.errors import SpecError
from fl_core.factory import call
from fl_core.training.batches import count_examples, known_targets

Indices: TypeAlias = npt.NDArray[np.int64]


class Shards:
    """The parts of one data set that devices have. They overlap: a fleet may be larger than the data set.

    Args:
        section: a profile's.
        seed: of all draws.
    """

    def __init__(self, section: DataSection, seed: int) -> None:
        self._section = section
        self._seed = seed

    @cached_property
    def whole(self) -> Dataset[Any]:
        """The data set, loaded when first asked for.

        Raises:
            SpecError, DataError: it cannot be loaded, or is empty.
        """
        loaded: Dataset[Any] = call(self._section.factory, self._section.args, "data.factory")
        count_examples(loaded)
        return loaded

    def of(self, index: int, num_examples: int) -> Dataset[Any]:
        """What device ``index`` has: ``num_examples`` examples, or all there are where that is more.

        Raises:
            SpecError, DataError: there is no such data.
        """
        random = np.random.Generator(np.random.Philox(key=[self._seed % 2**64, index]))
        number = count_examples(self.whole)
        if self._section.partition == "iid":
            chosen = np.arange(number)
            if num_examples < number:
                chosen = random.choice(number, num_examples, replace=False, shuffle=False)
        else:
            chosen = self._by_class(random, num_examples)
        return Subset(self.whole, torch.from_numpy(np.sort(chosen)))  # type: ignore[arg-type]

    def _by_class(self, random: np.random.Generator, num_examples: int) -> Indices:
        members = self._members
        if self._section.partition == "dirichlet":
            mixture = random.dirichlet(self._section.alpha * len(members) * self._prior)
        else:
            mixture = np.zeros(len(members))
            mixture[random.choice(len(members), min(self._section.classes, len(members)), replace=False)] = 1
            mixture /= mixture.sum()
        counts = random.multinomial(num_examples, mixture)
        parts = [_some(random, each, count) for each, count in zip(members, counts, strict=True) if count]
        return np.concatenate(parts)

    @cached_property
    def _members(self) -> list[Indices]:
        """The examples of each class."""
        targets = known_targets(self.whole)
        if targets is None and type(self.whole) is not TensorDataset:
            given = getattr(self.whole, "targets", None)  # torchvision's data sets have them so
            targets = None if given is None else torch.as_tensor(given)
        if targets is None or targets.ndim != 1 or targets.is_floating_point():
            raise SpecError(
                f"data.partition = {self._section.partition!r} needs the class of each example, and data.factory = "
                f"{self._section.factory!r} gives no tensor of classes; use 'iid'."
            )
        classes = targets.numpy()
        return [np.flatnonzero(classes == label) for label in np.unique(classes)]

    @cached_property
    def _prior(self) -> npt.NDArray[np.float64]:
        sizes = np.array([len(each) for each in self._members], np.float64)
        return np.asarray(sizes / sizes.sum())


def _some(random: np.random.Generator, members: Indices, count: int) -> Indices:
    """So many of them, or all."""
    if count >= len(members):
        return members
    return random.choice(members, count, replace=False, shuffle=False)
