"""The noise: its distribution over the integers, and the same bits everywhere."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from fl_core.errors import InvariantError
from fl_core.privacy import noise
from fl_core.privacy.noise import add_rounded_gaussian, rounded_gaussian

KEY = b"k" * 32
GOLDEN = "9282dd0145beaedf05b5b05f0f0ae53fb6cd6e0cde0b0923f39a42f12dff68e3"
GRID = "3ab349363dce7974267efc20660c99c351d5d15878a4f44847d8ebf495902a35"
DIGESTS = """
import hashlib, numpy as np
from fl_core.privacy.grid import to_grid
from fl_core.privacy.noise import rounded_gaussian
noise = rounded_gaussian(b"k" * 32, 100_000, 65536.0)
steps = [to_grid((noise / scale).astype(np.float32), 1.0, weight) for scale in (1e3, 3e7) for weight in (1.0, 0.7)]
print(*(hashlib.sha256(each.astype("<i8").tobytes()).hexdigest() for each in (noise, np.concatenate(steps))))
"""


def probability(k: int, deviation: float) -> float:
    """Of round(N(0, deviation²)) = k."""
    root = deviation * math.sqrt(2)
    return 0.5 * (math.erf((k + 0.5) / root) - math.erf((k - 0.5) / root))


@pytest.mark.parametrize(
    "disabled",
    ["", "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4",
     "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4 AVX2 FMA3 X86_V3"],
)  # fmt: skip
def test_the_same_bits_on_every_processor(disabled: str) -> None:
    """numpy picks its loops by what the processor can, and its logarithm differs between them; these do not."""
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled, "PYTHONWARNINGS": "ignore"}
    run = subprocess.run([sys.executable, "-c", DIGESTS], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [GOLDEN, GRID]


@pytest.mark.parametrize("deviation", [0.3, 1.0, 2.5])
def test_the_distribution_over_the_integers(deviation: float) -> None:
    """Chi-square over every integer that is to come up five times or more; what is beyond counts as one."""
    size = 400_000
    found = rounded_gaussian(hashlib.sha256(str(deviation).encode()).digest(), size, deviation)
    reach = next(k for k in range(1, 100) if size * probability(k + 1, deviation) < 5)
    observed = [int(np.sum(found == k)) for k in range(-reach, reach + 1)]
    expected = [size * probability(k, deviation) for k in range(-reach, reach + 1)]
    observed.append(size - sum(observed))
    expected.append(size - sum(expected))
    statistic = sum((seen - wanted) ** 2 / wanted for seen, wanted in zip(observed, expected, strict=True))
    degrees = len(expected) - 1
    assert abs(statistic - degrees) < 4 * math.sqrt(2 * degrees)


@pytest.mark.parametrize("deviation", [1.0, 65536.0 * 3.7, 2.0**48])
def test_its_moments(deviation: float) -> None:
    """Mean, variance (with the twelfth that rounding adds), skew, kurtosis, tails; neighbours are independent."""
    size = 1_000_000
    z = rounded_gaussian(hashlib.sha256(b"moments").digest(), size, deviation).astype(np.float64)
    z /= math.sqrt(deviation**2 + 1 / 12)
    bound = 4 / math.sqrt(size)
    assert abs(z.mean()) < bound
    assert abs((z**2).mean() - 1) < bound * math.sqrt(2)
    assert abs((z**3).mean()) < bound * math.sqrt(15)
    assert abs((z**4).mean() - 3) < bound * math.sqrt(96) + 1e-2
    for lag in (1, 2, noise._OUTPUTS // 2, noise._OUTPUTS):
        assert abs(np.mean(z[:-lag] * z[lag:])) < bound
    if deviation > 1:
        for far in (2.0, 3.0, 4.0):
            wanted = size * math.erfc(far / math.sqrt(2))
            assert abs(np.sum(np.abs(z) > far) - wanted) < 5 * math.sqrt(wanted)


def test_a_key_is_a_stream() -> None:
    """A shorter array is the front of a longer one; another key shares nothing with it; adding is adding."""
    long = rounded_gaussian(KEY, 50_000, 1000.0)
    np.testing.assert_array_equal(long[:20_001], rounded_gaussian(KEY, 20_001, 1000.0))
    other = rounded_gaussian(b"K" * 32, 50_000, 1000.0)
    assert abs(np.corrcoef(long, other)[0, 1]) < 0.02
    total = np.arange(50_000)
    add_rounded_gaussian(total, KEY, 1000.0)
    np.testing.assert_array_equal(total - np.arange(50_000), long)


def test_each_block_does_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many bytes of the stream for so many values, whatever the values are; a block that falls short is made up."""
    drawn: list[int] = []

    class Counted:
        def __init__(self, key: bytes) -> None:
            self.stream = real(key)

        def update_into(self, data: bytes, into: bytearray) -> int:
            drawn[-1] += len(data)
            return self.stream.update_into(data, into)

    real = noise._stream
    monkeypatch.setattr(noise, "_stream", Counted)
    for number in range(20):
        drawn.append(0)
        rounded_gaussian(bytes([number]) * 32, 3 * noise._OUTPUTS, 5.0)
    assert set(drawn) == {3 * 16 * noise._CANDIDATES}
    monkeypatch.setattr(noise, "_OUTPUTS", 2 * noise._CANDIDATES)  # more than lie in the circle
    assert rounded_gaussian(KEY, 3 * noise._OUTPUTS, 5.0).std() == pytest.approx(5.0, rel=0.02)


def test_the_logarithm() -> None:
    """√(-2 ln(s) / s) to the last bits, near 0 and near 1."""
    block = noise._Block()
    chance = np.random.default_rng(0)
    s = np.concatenate([chance.uniform(0, 1, noise._CANDIDATES - 300), 1 - 2.0 ** -np.arange(1, 54).repeat(2),
                        2.0 ** -np.arange(1, 106), [0.5, 2**-0.5] * 44, [1e-30]])[: noise._CANDIDATES]  # fmt: skip
    s[s == 0] = 0.5
    found = block._factor(s.copy())
    wanted = np.sqrt(-2 * np.log(s) / s)
    np.testing.assert_allclose(found, wanted, rtol=2e-15)


@pytest.mark.parametrize(
    ("key", "deviation"), [(b"short", 1.0), (KEY, -1.0), (KEY, math.nan), (KEY, 2.0**49), (KEY, math.inf)]
)
def test_nonsense_is_refused(key: bytes, deviation: float) -> None:
    """A key that is none, or a deviation that int64 could not hold."""
    with pytest.raises(InvariantError, match="Noise"):
        rounded_gaussian(key, 3, deviation)


def test_no_noise_is_no_noise() -> None:
    """And no values are no values."""
    assert not rounded_gaussian(KEY, 5, 0.0).any()
    assert rounded_gaussian(KEY, 0, 1.0).shape == (0,)
