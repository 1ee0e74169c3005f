"""Scores of a delta's elements against their formulas in float64, and that nothing is lost whatever the score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fl_core.codecs import ErrorFeedback, codec
from fl_core.training.importance import accumulated, score
from fl_core.vectors import read_all
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout((TensorSpec("a", (2, 3)), TensorSpec("b", (4,)), TensorSpec("c", (2,))))
RNG = np.random.default_rng(4)
DELTA = RNG.normal(size=12).astype(np.float32)
AVERAGES = {"a": torch.tensor(RNG.random((2, 3))), "b": torch.tensor(RNG.random(4))}
TRAINED = np.concatenate([AVERAGES["a"].numpy().reshape(-1), AVERAGES["b"].numpy()])
WEIGHTS = np.concatenate([TRAINED, [0.0] * 2])


def _scores(kind: str, values: npt.NDArray[Any], averages: Mapping[str, torch.Tensor] = AVERAGES) -> npt.NDArray[Any]:
    chosen = score(kind, LAYOUT, averages)
    assert chosen is not None
    return chosen(values)


def test_gradient_and_fisher_are_their_formulas() -> None:
    """|Δ| E|g| and Δ² E g²; a tensor without an average counts 0."""
    np.testing.assert_allclose(_scores("gradient", DELTA), np.abs(DELTA) * WEIGHTS, rtol=1e-6)
    np.testing.assert_allclose(_scores("fisher", DELTA), DELTA.astype(np.float64) ** 2 * WEIGHTS, rtol=1e-6)


def test_attention_is_its_formula() -> None:
    """A softmax over the tensors of their root-mean-square change over its largest, times |Δ|."""
    rms = np.array([np.sqrt(np.mean(DELTA[part].astype(np.float64) ** 2)) for part in LAYOUT.slices])
    alpha = np.exp(rms / rms.max()) / np.exp(rms / rms.max()).sum()
    np.testing.assert_allclose(_scores("attention", DELTA), np.abs(DELTA) * np.repeat(alpha, [6, 4, 2]), rtol=1e-6)


@pytest.mark.parametrize("kind", ["gradient", "fisher", "attention"])
def test_what_says_nothing_falls_back_to_the_magnitude(kind: str) -> None:
    """No averages at all, averages of 0 or NaN, and a delta that overflows rank by magnitude."""
    zero = {name: torch.zeros_like(values) for name, values in AVERAGES.items()}
    nan = {**AVERAGES, "a": torch.full((2, 3), torch.nan)}
    if kind != "attention":
        for averages in ({}, zero, nan):
            np.testing.assert_array_equal(_scores(kind, DELTA, averages), np.abs(DELTA))
    broken = DELTA.copy()
    broken[3] = np.inf
    np.testing.assert_array_equal(_scores(kind, broken), np.abs(broken))


def test_only_what_needs_averages_asks_for_them() -> None:
    """Magnitude and attention look at the delta alone, and the plain magnitude needs no function."""
    assert [accumulated(kind) for kind in ("gradient", "fisher", "attention", "magnitude", "")] == [
        "gradient", "fisher", "", "", "",
    ]  # fmt: skip
    assert score("magnitude", LAYOUT, {}) is None


@given(
    deltas=arrays(np.float32, (6, 12), elements=st.floats(-100, 100, width=32)),
    kind=st.sampled_from(["gradient", "fisher", "attention"]),
)
def test_what_was_sent_and_the_residual_are_the_sum(deltas: npt.NDArray[np.float32], kind: str) -> None:
    """By whatever the elements are chosen, all deltas are what was sent plus the residual, up to float32 rounding."""
    chosen, feedback, sent = codec("topk", {"fraction": 0.2, "importance": kind}), ErrorFeedback(), np.zeros(12)
    for delta in deltas:
        payload = feedback.encode(chosen, delta.copy(), 0, score(kind, LAYOUT, AVERAGES))
        sent += read_all(chosen.decode(bytes(payload), 12))
    assert feedback.residual is not None
    np.testing.assert_allclose(sent + feedback.residual, deltas.astype(np.float64).sum(axis=0), atol=1e-2)


@given(values=arrays(np.float32, 12, elements=st.floats(-9, 9, width=32)), scores=arrays(np.float32, 12, unique=True,
       elements=st.floats(0, 9, width=32)))  # fmt: skip
def test_the_elements_with_the_highest_scores_go(
    values: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]
) -> None:
    """Exactly the k highest scores' elements arrive, at full precision."""
    chosen = codec("topk", {"fraction": 0.25})
    decoded = read_all(chosen.decode(bytes(chosen.encode_ranked(values, scores)), 12))  # type: ignore[attr-defined]
    expected = np.zeros(12, np.float32)
    places = np.argsort(scores)[-3:]
    expected[places] = values[places]
    np.testing.assert_array_equal(decoded, expected)
