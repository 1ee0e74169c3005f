"""What a hostile device sends is the honest update, corrupted in a known way."""

import numpy as np
import pytest

from fl_core.errors import SpecError
from workers.child.attacks import corrupt

BASE = np.array([1.0, -2.0, 0.5], np.float32)
DELTA = np.array([0.25, 4.0, -1.0], np.float32)


@pytest.mark.parametrize(("kind", "factor"), [("sign_flip", -1.0), ("scale", 100.0)])
def test_the_delta_is_corrupted_in_either_form(kind: str, factor: float) -> None:
    """A delta is multiplied; parameters are moved from the base by the multiplied delta. The honest update stays."""
    honest, parameters = DELTA.copy(), BASE + DELTA
    corrupted = corrupt(honest, "delta", BASE, kind)  # type: ignore[arg-type]
    np.testing.assert_array_equal(corrupted, np.float32(factor) * DELTA)
    moved = corrupt(parameters, "parameters", BASE, kind)  # type: ignore[arg-type]
    np.testing.assert_allclose(moved, BASE + factor * DELTA, rtol=1e-5)
    np.testing.assert_array_equal(honest, DELTA)
    assert (corrupted.dtype, moved.dtype) == (np.float32, np.float32)


def test_what_cannot_be_done_is_said() -> None:
    """An unknown attack, and soft labels, are refused with a sentence."""
    with pytest.raises(SpecError, match="'shout' is not known; use one of sign_flip, scale"):
        corrupt(DELTA, "delta", BASE, "shout")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="send soft_labels"):
        corrupt(DELTA, "soft_labels", BASE, "scale")
