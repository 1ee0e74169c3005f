"""The clip that follows a quantile: what it costs, and where it goes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fl_core.errors import InvariantError
from fl_core.privacy.adaptive_clip import bit, bits_cost, bits_deviation, next_clip, update_multiplier
from fl_core.privacy.budget import cost
from fl_core.privacy.grid import RESOLUTION
from fl_core.privacy.noise import rounded_gaussian


@pytest.mark.parametrize(("z", "buffer_size"), [(1.0, 20), (3.7, 100), (0.5, 10_000)])
def test_both_releases_cost_what_one_would(z: float, buffer_size: int) -> None:
    """The update's noise is raised by just what the bits cost (theorem 1 of the paper)."""
    both = cost(update_multiplier(z, buffer_size)) + bits_cost(buffer_size)
    assert both == pytest.approx(cost(z), rel=1e-12)


def test_a_buffer_too_small_for_its_noise() -> None:
    """The bits alone would cost more than everything may."""
    with pytest.raises(InvariantError, match="buffer of 10"):
        update_multiplier(1.0, 10)


def test_the_clip_goes_to_the_median() -> None:
    """Of lognormal norms, from a hundred times too large and too small, with noise on the bits."""
    chance = np.random.default_rng(5)
    for clip in (0.02, 200.0):
        for merge in range(200):
            bits = sum(bit(norm, clip) for norm in chance.lognormal(math.log(2.0), 0.5, 100))
            noise = int(rounded_gaussian(merge.to_bytes(32, "big"), 1, bits_deviation(100) * RESOLUTION)[0])
            clip = next_clip(clip, bits + noise, 100)
        assert clip == pytest.approx(2.0, rel=0.15)


def test_the_step_is_the_paper_s() -> None:
    """C · exp(-0.2 (b̃ - ½)), bounded however far out the noise is."""
    for share in (0.0, 0.3, 0.5, 1.0):
        bits = round((share - 0.5) * 1000) * RESOLUTION
        assert next_clip(3.0, bits, 1000) == pytest.approx(3.0 * math.exp(-0.2 * (share - 0.5)), rel=1e-15)
    assert next_clip(1.0, -(10**9) * RESOLUTION, 1) == pytest.approx(math.exp(0.7))
    assert next_clip(1e-30, 10**9 * RESOLUTION, 1) == 1e-30


def test_a_bit_is_half_of_what_a_device_is() -> None:
    """NaN counts as above the clip: it must not be refused either."""
    assert (bit(1.0, 1.0), bit(1.1, 1.0), bit(math.nan, 1.0)) == (RESOLUTION // 2, -RESOLUTION // 2, -RESOLUTION // 2)
