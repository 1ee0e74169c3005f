"""A layout carries every floating tensor once, there and back, and refuses what does not fit it."""

import subprocess
import sys

import msgpack
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fl_core.errors import LayoutError
from fl_core.vectors import Parameters
from fl_core.vectors.agreement import verify_digest
from fl_core.vectors.buffers import ROLES
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec


def small_model() -> nn.Sequential:
    """A linear layer, BatchNorm, and a frozen linear layer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    for parameter in model[2].parameters():
        parameter.requires_grad_(False)
    return model


def numbered(layout: Layout) -> Parameters:
    """A vector in which every element is different."""
    return Parameters(np.arange(1, layout.num_elements + 1, dtype=np.float32))


def test_trainable_first_then_buffers_and_frozen() -> None:
    """Trainable tensors come first in state_dict order, then buffers and frozen ones; counters are not carried."""
    layout = Layout.of(small_model())
    assert [spec.name for spec in layout.tensors] == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "2.weight",
        "2.bias",
    ]
    assert layout.num_parameters == 12 + 4 + 4 + 4
    assert layout.num_elements == 24 + 4 + 4 + 8 + 2
    assert (layout.trainable, layout.state) == (slice(0, 24), slice(24, 32))
    assert layout.num_bytes == 4 * 42


def test_tied_parameters_are_carried_once() -> None:
    """A weight that two modules share is in the vector once, and loading it changes both."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    layout = Layout.of(model)
    assert [spec.name for spec in layout.tensors] == ["0.weight"]
    layout.load_into(model, Parameters(np.full(9, 7.0, np.float32)))
    assert model[1].weight is model[0].weight
    assert model.state_dict()["1.weight"].tolist() == [[7.0] * 3] * 3


def test_flatten_is_the_concatenation_and_a_copy() -> None:
    """The vector is the tensors one after the other, and changing it leaves the model alone."""
    model = small_model()
    layout = Layout.of(model)
    state = model.state_dict()
    expected = np.concatenate([state[spec.name].numpy().ravel() for spec in layout.tensors])
    values = layout.flatten(model).values
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, expected)
    values[:] = -1.0
    np.testing.assert_array_equal(layout.flatten(model).values, expected)


@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.filterwarnings("error")
def test_load_into_is_in_place_and_exact(writeable: bool) -> None:
    """Loading keeps every tensor's identity, takes read-only vectors without a warning, and leaves counters alone."""
    model = small_model()
    model.state_dict()["1.num_batches_tracked"].fill_(5)
    layout = Layout.of(model)
    vector = numbered(layout)
    vector.values.flags.writeable = writeable
    before = {name: id(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
    layout.load_into(model, vector)
    assert {name: id(tensor) for name, tensor in model.state_dict(keep_vars=True).items()} == before
    np.testing.assert_array_equal(layout.flatten(model).values, vector.values)
    assert int(model.state_dict()["1.num_batches_tracked"]) == 5
    assert model[0].weight.requires_grad
    assert model[0].weight.grad_fn is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.filterwarnings("error")
def test_other_dtypes_are_cast_each_way(dtype: torch.dtype, writeable: bool) -> None:
    """A model of another precision travels as float32 and keeps its own dtype."""
    model = nn.Linear(3, 2).to(dtype)
    layout = Layout.of(model)
    assert {spec.dtype for spec in layout.tensors} == {str(dtype).removeprefix("torch.")}
    vector = numbered(layout)
    vector.values.flags.writeable = writeable
    layout.load_into(model, vector)
    assert model.weight.dtype is dtype
    np.testing.assert_array_equal(layout.flatten(model).values, vector.values)


def test_scalars_empty_and_non_contiguous_tensors() -> None:
    """Scalars, empty tensors and transposed memory lie in the vector in logical order."""
    model = nn.Module()
    model.scale = nn.Parameter(torch.tensor(3.0))
    model.none = nn.Parameter(torch.empty(0, 4))
    model.turned = nn.Parameter(torch.arange(6.0).reshape(2, 3).t())
    layout = Layout.of(model)
    assert layout.flatten(model).values.tolist() == [3.0, 0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
    layout.load_into(model, numbered(layout))
    assert model.turned.tolist() == [[2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]


def test_named_arrays_are_views_in_order() -> None:
    """Named arrays share the vector's memory, have the model's shapes, and lie one after the other."""
    layout = Layout.of(small_model())
    vector = numbered(layout)
    named = layout.to_named(vector)
    assert named["0.weight"].shape == (4, 3)
    assert all(np.shares_memory(array, vector.values) for array in named.values())
    np.testing.assert_array_equal(np.concatenate([array.ravel() for array in named.values()]), vector.values)


def test_a_vector_of_another_size_is_refused() -> None:
    """No vector is stretched or cut to fit."""
    model = small_model()
    layout = Layout.of(model)
    for size in (1, layout.num_elements - 1, layout.num_elements + 1):
        with pytest.raises(LayoutError, match="does not fit"):
            layout.load_into(model, Parameters(np.zeros(size, np.float32)))
        with pytest.raises(LayoutError, match="does not fit"):
            layout.to_named(Parameters(np.zeros(size, np.float32)))


def test_a_model_of_another_shape_is_refused_before_it_is_touched() -> None:
    """Where one tensor does not fit, none is overwritten."""
    layout = Layout.of(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
    other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    before = Layout.of(other).flatten(other).values
    with pytest.raises(LayoutError, match=r"'1\.weight' has shape \[5, 4\]"):
        layout.load_into(other, numbered(layout))
    np.testing.assert_array_equal(Layout.of(other).flatten(other).values, before)
    with pytest.raises(LayoutError, match=r"no tensor '1\.weight'"):
        layout.flatten(nn.Sequential(nn.Linear(3, 4)))


def test_digest_is_stable_and_tells_layouts_apart() -> None:
    """The digest of a given layout is fixed for ever, and changes with every property of a tensor."""
    layout = Layout((TensorSpec("w", (2, 3)), TensorSpec("b", (3,), role="constant")))
    assert layout.digest == "1be6302728c2f4da272222bd599902b4"
    others = [
        Layout((TensorSpec("v", (2, 3)), TensorSpec("b", (3,), role="constant"))),
        Layout((TensorSpec("w", (3, 2)), TensorSpec("b", (3,), role="constant"))),
        Layout((TensorSpec("w", (2, 3), "float64"), TensorSpec("b", (3,), role="constant"))),
        Layout((TensorSpec("w", (2, 3)), TensorSpec("b", (3,)))),
        Layout((TensorSpec("w", (2, 3)),)),
    ]
    assert len({layout.digest, *(other.digest for other in others)}) == 6


def test_digest_mismatch_names_the_first_difference() -> None:
    """With the other layout at hand the error names the tensor, without it both digests."""
    mine, theirs = Layout.of(nn.Linear(3, 2)), Layout.of(nn.Linear(3, 4))
    verify_digest(mine, mine.digest)
    with pytest.raises(LayoutError, match=r"tensor 0 should be 'weight' \[4, 3\].* and is 'weight' \[2, 3\]"):
        verify_digest(mine, theirs.digest, theirs)
    with pytest.raises(LayoutError, match=f"{theirs.digest}.*{mine.digest}"):
        verify_digest(mine, theirs.digest)
    shorter = Layout(theirs.tensors[:1])
    with pytest.raises(LayoutError, match=r"tensor 1 should be 'bias'.* and is absent"):
        verify_digest(shorter, theirs.digest, theirs)


tensor_specs = st.builds(
    TensorSpec,
    name=st.text(min_size=1, max_size=20),
    shape=st.lists(st.integers(0, 5), max_size=4).map(tuple),
    dtype=st.sampled_from(["float16", "bfloat16", "float32", "float64"]),
    role=st.sampled_from(ROLES),
)
layouts = (
    st.lists(tensor_specs, min_size=1, max_size=8, unique_by=lambda spec: spec.name)
    .map(lambda specs: sorted(specs, key=lambda spec: ROLES.index(spec.role)))
    .filter(lambda specs: specs[0].trainable)
    .map(lambda specs: Layout(tuple(specs)))
)


@given(layouts)
def test_map_round_trip_through_msgpack(layout: Layout) -> None:
    """A layout survives msgpack, and so does its digest."""
    again = Layout.from_map(msgpack.unpackb(msgpack.packb(layout.to_map())))
    assert again == layout
    assert again.digest == layout.digest


@given(layouts)
def test_slices_tile_the_vector(layout: Layout) -> None:
    """The tensors' slices follow each other without gap or overlap, trainable ones within the trainable slice."""
    position = 0
    for spec, where in zip(layout.tensors, layout.slices, strict=True):
        assert where == slice(position, position + spec.num_elements)
        position = where.stop
        if spec.trainable:
            assert position <= layout.trainable.stop
    assert position == layout.num_elements


GOOD_ROW = ["w", [2], "float32", "weight"]


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"tensors": [GOOD_ROW], "more": 1},
        {"tensors": "w"},
        {"tensors": [["w", [2], "float32"]]},
        {"tensors": [[1, [2], "float32", "weight"]]},
        {"tensors": [["", [2], "float32", "weight"]]},
        {"tensors": [["w", 2, "float32", "weight"]]},
        {"tensors": [["w", [-1], "float32", "weight"]]},
        {"tensors": [["w", [True], "float32", "weight"]]},
        {"tensors": [["w", [2.0], "float32", "weight"]]},
        {"tensors": [["w", [1] * 33, "float32", "weight"]]},
        {"tensors": [["w", [2], "int64", "weight"]]},
        {"tensors": [["w", [2], ["float32"], "weight"]]},
        {"tensors": [["w", [2], "float32", 1]]},
        {"tensors": [GOOD_ROW, GOOD_ROW]},
        {"tensors": []},
        {"tensors": [["w", [2], "float32", "constant"]]},
        {"tensors": [["b", [2], "float32", "constant"], GOOD_ROW]},
    ],
)
def test_malformed_maps_are_refused(document: object) -> None:
    """Whatever to_map would not have written raises LayoutError."""
    with pytest.raises(LayoutError):
        Layout.from_map(document)


def test_models_without_a_layout_are_refused() -> None:
    """A model with nothing to train, a complex tensor or an uninitialised one is an error that says so."""
    with pytest.raises(LayoutError, match="requires_grad"):
        Layout.of(nn.Flatten())
    complex_model = nn.Module()
    complex_model.phase = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(LayoutError, match="'phase' is complex"):
        Layout.of(complex_model)
    with pytest.raises(LayoutError, match="'weight' has no shape yet"):
        Layout.of(nn.LazyLinear(3))


def test_import_is_light() -> None:
    """Importing the layout does not import torch."""
    code = "import sys, fl_core.vectors.layout, fl_core.codecs, fl_core.aggregation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
