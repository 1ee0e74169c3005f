"""The parts of a model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.errors import SpecError
from fl_core.vectors.layout import Layout
from fl_core.vectors.model_parts import Parts
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout(
    (
        TensorSpec("body.0.weight", (3, 2)),
        TensorSpec("body.0.bias", (3,)),
        TensorSpec("body.1.weight", (3,)),
        TensorSpec("head.lora_a", (2,)),
        TensorSpec("head.weight", (2, 3)),
        TensorSpec("tail.scale", (3,)),
    )
)


def test_groups_match_beginnings_and_patterns_and_may_overlap() -> None:
    """Each part has exactly the tensors that its names mean, in the layout's order."""
    parts = Parts(LAYOUT, [["body."], ["head.", "body.1."], ["*.lora_*"]])
    assert parts.count == 3
    assert parts.tensors(0) == (0, 1, 2, 3, 4, 5)
    assert [parts.tensors(part) for part in (1, 2, 3)] == [(0, 1, 2), (2, 3, 4), (3,)]
    assert [parts.num_elements(part) for part in range(4)] == [23, 12, 11, 2]
    assert parts.names(3) == {"head.lora_a"}


def test_a_part_s_vector_is_its_tensors_one_after_the_other() -> None:
    """Gathered by hand from the places of the tensors; the whole is the vector itself, as a copy."""
    parts, values = Parts(LAYOUT, [["head.", "body.1."]]), np.arange(23, dtype=np.float32)
    expected = [9.0, 10.0, 11.0, *range(12, 14), *range(14, 20)]
    assert parts.gather(values, 1).tolist() == expected
    whole = parts.gather(values, 0)
    assert whole.tolist() == values.tolist()
    assert not np.shares_memory(whole, values)


def test_a_group_that_matches_nothing_trainable_is_refused() -> None:
    """A misspelt name is told with what the model has."""
    with pytest.raises(SpecError, match=r"part 2 = .* matches no trainable tensor; the model has 'body.0.weight'"):
        Parts(LAYOUT, [["body."], ["nowhere."]])


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30), st.integers(1, 30))
def test_even_parts_divide_the_model(sizes: list[int], count: int) -> None:
    """Every tensor is in exactly one part, parts are neighbours, none is empty, and none exceeds its share by more
    than its largest tensor."""
    layout = Layout(tuple(TensorSpec(f"{i}.weight", (size,)) for i, size in enumerate(sizes)))
    if count > len(sizes):
        with pytest.raises(SpecError, match=f"num_parts = {count} is more than the model has trainable tensors"):
            Parts.even(layout, count)
        return
    parts = Parts.even(layout, count)
    assert parts.count == count
    assert [i for part in range(1, count + 1) for i in parts.tensors(part)] == list(range(len(sizes)))
    assert all(parts.tensors(part) for part in range(1, count + 1))
    if len(sizes) >= 4 * count:
        assert max(map(parts.num_elements, range(1, count + 1))) <= sum(sizes) / count + 2 * max(sizes)


def test_names_that_begin_alike_are_not_mixed_up() -> None:
    """Part 1 of ten layers is layer 1, not layers 1 and 10."""
    layout = Layout(tuple(TensorSpec(f"layers.{i}", (4,)) for i in range(12)))
    parts = Parts.even(layout, 12)
    assert [parts.tensors(part) for part in range(1, 13)] == [(i,) for i in range(12)]
