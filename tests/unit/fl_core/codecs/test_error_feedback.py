"""Error feedback loses nothing but the present residual."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fl_core.codecs import ErrorFeedback, codec
from fl_core.vectors import read_all

TOPK = codec("topk", {"fraction": 0.1})


@given(deltas=arrays(np.float32, (8, 30), elements=st.floats(-100, 100, width=32)))
def test_what_was_sent_and_the_residual_are_the_sum(deltas: npt.NDArray[np.float32]) -> None:
    """The sum of all deltas is the sum of all that was sent plus the residual, up to float32 rounding."""
    feedback, sent = ErrorFeedback(), np.zeros(30)
    for delta in deltas:
        payload = feedback.encode(TOPK, delta.copy(), seed=0)
        sent += read_all(TOPK.decode(bytes(payload), 30))
    assert feedback.residual is not None
    np.testing.assert_allclose(sent + feedback.residual, deltas.astype(np.float64).sum(axis=0), atol=1e-2)


def test_small_elements_arrive_in_the_end() -> None:
    """An element that is never among the largest of one update is sent once enough of it has gathered."""
    feedback, sent = ErrorFeedback(), np.zeros(20)
    delta = np.array([10.0, 10.0] + [1.0] * 18, np.float32)
    for _ in range(200):
        payload = feedback.encode(TOPK, delta.copy(), seed=0)
        sent += read_all(TOPK.decode(bytes(payload), 20))
    np.testing.assert_allclose(sent[2:] / 200, 1.0, atol=0.3)


def test_a_diverged_delta_is_sent_but_not_kept() -> None:
    """NaN reaches the coordinator, which refuses it, and does not spoil the device's later updates."""
    feedback = ErrorFeedback()
    payload = feedback.encode(TOPK, np.full(20, np.nan, np.float32), seed=0)
    assert np.isnan(read_all(TOPK.decode(bytes(payload), 20))).any()
    assert feedback.residual is None


def test_a_model_of_another_size_starts_afresh() -> None:
    """A residual of another shape is dropped."""
    feedback = ErrorFeedback()
    feedback.encode(TOPK, np.ones(20, np.float32), seed=0)
    feedback.encode(TOPK, np.ones(10, np.float32), seed=0)
    assert feedback.residual is not None
    assert feedback.residual.tolist() == [0.0] + [1.0] * 9
