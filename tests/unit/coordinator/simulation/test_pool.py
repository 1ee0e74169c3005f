"""Processes that train: the same bits as one process, and none is left behind."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

import fedtide
from tests.unit.coordinator.simulation.test_training import PROFILE, SPEC


@pytest.mark.parametrize(
    "changes", [{}, {"codec": {"name": "topk", "fraction": 0.2}}, {"training": {"method": "per_fedavg"}}]
)
def test_processes_give_the_bits_of_one(tmp_path: Path, changes: dict[str, Any]) -> None:
    """With what devices remember, and with methods that only this process trains."""
    runs = [
        fedtide.simulate({**SPEC, **changes}, 100, profile=PROFILE, updates=40, processes=n, out=tmp_path / str(n))
        for n in (1, 2)
    ]
    assert runs[0].summary == runs[1].summary
    assert not multiprocessing.active_children()


def test_what_a_device_raises_is_raised(tmp_path: Path) -> None:
    """In a process of the pool as in this one."""
    profile = {**PROFILE, "data": {"factory": f"{__name__}:labels_out_of_range"}}
    for n in (1, 2):
        with pytest.raises(IndexError, match="out of bounds"):
            fedtide.simulate(SPEC, 5, profile=profile, updates=5, processes=n, out=tmp_path / str(n))
    assert not multiprocessing.active_children()


def labels_out_of_range() -> Any:
    import torch
    from torch.utils.data import TensorDataset

    return TensorDataset(torch.zeros(9, 64), torch.full((9,), 12))
