"""A module's tensors: which travel, how they are copied, and that they lie in memory of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fl_core.errors import LayoutError
from fl_core.vectors.module_tensors import carried_tensors, copy_in, copy_out, tensors_beside
from fl_core.vectors.shared_memory import verify_own_memory
from fl_core.vectors.tensor_spec import TensorSpec, spec_from_row

SPECS = [TensorSpec("weight", (2, 3)), TensorSpec("bias", (2,))]


def test_values_go_out_and_come_in() -> None:
    """In each tensor's shape; what is left out stays as it is."""
    module = nn.Linear(3, 2)
    parts = [np.empty((2, 3), np.float32), np.empty(2, np.float32)]
    copy_out(module, SPECS, parts)
    assert np.array_equal(parts[0], module.weight.detach().numpy())
    before = module.bias.detach().clone()
    copy_in(module, SPECS, [np.full((2, 3), 5.0, np.float32), None])
    assert bool((module.weight == 5).all())
    assert bool((module.bias == before).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_each_dtype_takes_memory_that_cannot_be_written_to(
    dtype: torch.dtype, recwarn: pytest.WarningsRecorder
) -> None:
    """A decoded payload is such memory, and torch warns of it."""
    module = nn.Linear(3, 2).to(dtype)
    values = np.full((2, 3), 0.5, np.float32)
    values.flags.writeable = False
    copy_in(module, SPECS, [values, None])
    assert module.weight.dtype == dtype
    assert bool((module.weight == 0.5).all())
    assert not recwarn


@pytest.mark.parametrize("specs", [[TensorSpec("other", (2, 3))], [TensorSpec("weight", (3, 2))]])
def test_another_model_s_tensors_are_refused(specs: list[TensorSpec]) -> None:
    """Also those that would not be copied."""
    with pytest.raises(LayoutError):
        copy_out(nn.Linear(3, 2), specs, [None])


def test_a_shared_tensor_travels_once_and_a_complex_one_not_at_all() -> None:
    """Tied weights under their first name; the other name is known for files of all tensors."""
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    module.register_buffer("steps", torch.tensor(3))
    assert [name for name, _ in carried_tensors(module)] == ["0.weight"]
    beside = tensors_beside(["0.weight"], module)
    assert beside["1.weight"] == "0.weight"
    assert beside["steps"] == np.array(3)
    module.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(LayoutError, match="is complex"):
        list(carried_tensors(module))


def test_memory_that_two_tensors_share_is_refused() -> None:
    """They would be sent twice, and loaded one over the other."""
    whole = nn.Parameter(torch.zeros(6))
    verify_own_memory([("a", whole), ("b", nn.Parameter(torch.zeros(6)))])
    with pytest.raises(LayoutError, match="'a' and 'half' lie in the same memory"):
        verify_own_memory([("a", whole), ("half", whole.detach()[3:])])
    with pytest.raises(LayoutError, match="one place in memory"):
        verify_own_memory([("wide", nn.Parameter(torch.zeros(1).expand(4)))])


@pytest.mark.parametrize(
    "row",
    [
        "text", ["w", [2], "float32"], ["", [2], "float32", "weight"], ["w", 2, "float32", "weight"],
        ["w", [-1], "float32", "weight"], ["w", [True], "float32", "weight"], ["w", [1] * 40, "float32", "weight"],
        ["w", [2], "int8", "weight"], ["w", [2], "float32", "hero"], ["w", [2], "float32", True],
    ],
)  # fmt: skip
def test_a_row_that_no_layout_wrote_is_refused(row: object) -> None:
    """It comes from the network."""
    spec = TensorSpec("w", (2, 0), "bfloat16", "mean")
    assert spec_from_row(0, spec.to_row()) == spec
    assert spec.num_elements == 0
    with pytest.raises(LayoutError):
        spec_from_row(3, row)
