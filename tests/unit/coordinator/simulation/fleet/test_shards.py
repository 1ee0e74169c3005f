"""Shards: each device draws its own examples from one data set, in the way that the profile says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coordinator.simulation.fleet.profile import DataSection
from coordinator.simulation.fleet.shards import Shards
from fl_core.errors import DataError, SpecError


def _classes(section: dict[str, Any], index: int, number: int, seed: int = 0) -> list[int]:
    shards = Shards(DataSection.model_validate({"factory": "fl_core.data:digits", **section}), seed)
    subset: Any = shards.of(index, number)
    assert len(set(subset.indices.tolist())) == len(subset)
    return np.bincount(shards.whole.tensors[1][subset.indices], minlength=10).tolist()  # type: ignore[attr-defined]


def test_an_even_partition_has_all_classes() -> None:
    """As many examples as were asked for, or all that there are."""
    assert sum(_classes({}, 0, 200)) == 200 and min(_classes({}, 0, 200)) > 5
    assert sum(_classes({}, 0, 10_000)) == 1438


def test_a_dirichlet_mixture_is_a_devices_own() -> None:
    """A small concentration gives few classes, a large one the data set's own shares."""
    few, even = {"partition": "dirichlet", "alpha": 0.05}, {"partition": "dirichlet", "alpha": 1e4}
    assert sum(count > 0 for count in _classes(few, 3, 60)) < 6
    assert _classes(few, 3, 60) != _classes(few, 4, 60)
    assert min(_classes(even, 3, 600)) > 35


def test_whole_classes() -> None:
    """So many of them, others for each device."""
    drawn = [_classes({"partition": "by_label", "classes": 2}, index, 40) for index in range(20)]
    assert {sum(count > 0 for count in each) for each in drawn} == {2}
    assert len({tuple(np.flatnonzero(each)) for each in drawn}) > 5


def test_the_same_seed_gives_the_same_shard() -> None:
    """Another seed another one."""
    section = {"partition": "dirichlet", "alpha": 0.5}
    assert _classes(section, 7, 50) == _classes(section, 7, 50) != _classes(section, 7, 50, seed=1)


def test_data_that_cannot_be_divided_is_refused() -> None:
    """Without classes there is no mixture of them; without examples nothing."""
    numbers = DataSection(factory="tests.unit.coordinator.simulation.fleet.test_shards:numbers", partition="by_label")
    with pytest.raises(SpecError, match="gives no tensor of classes"):
        Shards(numbers, 0).of(0, 3)
    with pytest.raises(DataError, match="no examples"):
        Shards(DataSection(factory="tests.unit.coordinator.simulation.fleet.test_shards:nothing"), 0).of(0, 3)


def numbers() -> Any:
    import torch
    from torch.utils.data import TensorDataset

    return TensorDataset(torch.zeros(5, 2), torch.zeros(5))


def nothing() -> Any:
    import torch
    from torch.utils.data import TensorDataset

    return TensorDataset(torch.zeros(0, 2), torch.zeros(0))
