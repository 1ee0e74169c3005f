"""The view that devices hold: within one step of the last change of the model, and the same everywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from coordinator.outgoing.device_view import DeviceView
from fl_core.codecs import codec
from fl_core.codecs.model_payload import decode_update, write_state
from fl_core.vectors.arithmetic import add_scaled
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

vectors = arrays(np.float32, st.integers(1, 3000), elements=st.floats(-100, 100, width=32))
BLOCK_SIZE = 1024


def _view(size: int) -> DeviceView:
    return DeviceView(Layout((TensorSpec("weight", (size,)),)))


def _largest_by_block(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each element, the largest magnitude in its block."""
    starts = range(0, values.size, BLOCK_SIZE)
    parts = [np.full(values[s : s + BLOCK_SIZE].size, np.abs(values[s : s + BLOCK_SIZE]).max()) for s in starts]
    return np.concatenate(parts)


@given(values=vectors, seed=st.integers(0, 2**32))
def test_the_view_is_within_a_step_of_the_model(values: npt.NDArray[np.float32], seed: int) -> None:
    """One step is 1/127 of the largest change in the element's block, and float32's own rounding: that of the element,
    and of a scale below the normal numbers, which a processor may take for 0."""
    view = _view(values.size)
    before = np.zeros_like(values)
    view.begin(before)
    assert view.follow(values, seed) is not None
    assert view.values is not None
    step = _largest_by_block(values.astype(np.float64)) / 127
    error = np.abs(view.values.astype(np.float64) - values)
    assert (error <= step * (1 + 1e-5) + 1e-5 * np.abs(values) + 128 * 2.0**-126).all()


def test_errors_do_not_add_up() -> None:
    """Over 300 versions the view stays as near as after the first, and a device that only has patches is with it."""
    rng = np.random.default_rng(0)
    model = rng.standard_normal(5000).astype(np.float32)
    view, patches = _view(model.size), codec("int8")
    device = view.begin(model).copy()
    errors = []
    for version in range(1, 301):
        change = 0.01 * rng.standard_normal(model.size).astype(np.float32)
        model += change
        patch = view.follow(model, version)
        assert patch is not None and view.values is not None
        add_scaled(device, patches.decode(bytes(patch), model.size), 1.0)
        np.testing.assert_array_equal(device, view.values)
        errors.append(np.abs(view.values.astype(np.float64) - model).max())
    step = 0.01 * 5 / 127
    assert max(errors) < 1.5 * step
    assert np.mean(errors[-50:]) < 1.2 * np.mean(errors[:50])


def test_the_view_moves_without_bias() -> None:
    """What many views come to in the mean is the model."""
    model = np.linspace(-1, 1, 100).astype(np.float32)
    total = np.zeros(model.size)
    for seed in range(2000):
        view = _view(model.size)
        view.begin(np.zeros_like(model))
        view.follow(model, seed)
        assert view.values is not None
        total += view.values
    assert np.abs(total / 2000 - model).max() < 5 * 0.5 / 127 / np.sqrt(2000)


def test_nothing_held_and_nothing_finite_begin_anew() -> None:
    """Without an earlier version there is no patch; after one that has diverged neither, and the view is the model."""
    view, model = _view(10), np.ones(10, np.float32)
    assert view.follow(model, 0) is None
    assert view.follow(2 * model, 1) is not None
    for bad in (np.nan, np.inf):
        broken = model.copy()
        broken[3] = bad
        assert view.follow(broken, 2) is None
        np.testing.assert_array_equal(view.values, broken)
        assert view.follow(model, 3) is None
        np.testing.assert_array_equal(view.values, model)
    view.forget()
    assert view.follow(model, 4) is None


@pytest.mark.parametrize("size", [10.0, 1e6, 1e30])
def test_a_model_that_was_taken_back_comes_whole(size: float) -> None:
    """A step of such a change would be larger than the parameters: nobody may train from, or score, what it leaves."""
    rng = np.random.default_rng(0)
    good = 0.1 * rng.standard_normal(5000).astype(np.float32)
    diverged = good.copy()
    diverged[3000:3010] = size
    view = _view(good.size)
    view.begin(diverged)
    assert view.follow(good, 1) is None
    np.testing.assert_array_equal(view.values, good)
    assert view.follow(np.float32(1.01) * good, 2) is not None


@given(before=vectors, after=vectors, seed=st.integers(0, 2**32))
def test_the_view_is_never_further_off_than_the_model_in_int8(
    before: npt.NDArray[np.float32], after: npt.NDArray[np.float32], seed: int
) -> None:
    """Whatever changed: 1/127 of the largest parameter in the element's block, and float32's own rounding."""
    size = min(before.size, after.size)
    view = _view(size)
    view.begin(before[:size])
    view.follow(after[:size], seed)
    assert view.values is not None
    step = _largest_by_block(after[:size].astype(np.float64)) / 127
    error = np.abs(view.values.astype(np.float64) - after[:size])
    rounding = 2.0**-23 * (np.abs(before[:size]) + np.abs(after[:size])).astype(np.float64) + 2.0**-126
    assert (error <= step * (1 + 1e-5) + 2 * rounding).all()


def test_statistics_travel_as_they_are() -> None:
    """No rounding touches a running variance, whose root devices and evaluation need; constants are not sent."""
    layout = Layout(
        (
            TensorSpec("weight", (64,)),
            TensorSpec("norm.running_var", (64,), role="mean"),
            TensorSpec("mask", (2,), role="constant"),
        )
    )
    rng = np.random.default_rng(0)
    model = np.concatenate([np.ones(64), np.full(64, 1e-4), [-np.inf, np.nan]]).astype(np.float32)
    view, patches, device = DeviceView(layout), codec("int8"), model.copy()
    view.begin(model)
    for version in range(20):
        model[:64] += 0.1 * rng.standard_normal(64).astype(np.float32)
        model[64:128] = 1e-4 * rng.random(64)
        patch = view.follow(model, version)
        assert patch is not None and view.values is not None
        change, state = decode_update(patches, layout, bytes(patch), 64)
        assert state is not None
        add_scaled(device[:64], change, 1.0)
        write_state(layout, state, device)
        np.testing.assert_array_equal(device, view.values)
        np.testing.assert_array_equal(view.values[64:], model[64:])


@pytest.mark.parametrize("size", [1, 1024, 1025, 70_000])
def test_a_difference_is_encoded_as_if_it_were_held(size: int) -> None:
    """Block by block, without a vector of the model's size, and to the same bytes."""
    rng = np.random.default_rng(1)
    values, base = rng.standard_normal((2, size)).astype(np.float32)
    int8 = codec("int8")
    assert bytes(int8.encode_difference(values, base, 7)) == bytes(int8.encode(values - base, 7))  # type: ignore[attr-defined]
