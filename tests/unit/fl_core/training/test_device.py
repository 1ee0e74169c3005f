"""Which hardware a worker trains on."""

from __future__ import annotations

import pytest
import torch

from fl_core.errors import SpecError
from fl_core.training.device import pick_device


def test_auto_takes_cuda_where_it_is() -> None:
    """Automatic choice is CUDA when torch has it, otherwise the CPU."""
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_cpu_can_be_asked_for() -> None:
    """A device by name is that device."""
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("preference", "sentence"), [("gpu", "'gpu' is not known"), ("cuda:99", "not on this machine"), ("meta", "not on")]
)
def test_a_device_that_is_not_here_is_refused(preference: str, sentence: str) -> None:
    """Unknown and absent devices are a spec error, not a failure in the first task."""
    with pytest.raises(SpecError, match=sentence):
        pick_device(preference)
