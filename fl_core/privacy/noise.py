"""Gaussian noise on an integer grid: a pure function of a key, the same bits on every processor.

Integers that a sum of integers is added to are private only if the noise gives nothing away itself. The low bits of a
floating-point Gaussian do (Mironov, "On Significance of the Least Significant Bits for Differential Privacy", CCS
2012; Jin et al., "Are We There Yet? Timing and Floating-Point Attacks on Differential Privacy Systems", 2022, arXiv
2112.05307), so it is rounded to integers before it meets the sum: of an integer, rounding its noisy value and adding
rounded noise are the same, and what is done to a noisy value costs no privacy.

A key's ChaCha20 stream (RFC 8439) is cut into numbers of 53 bits, of which Marsaglia and Bray's polar method (SIAM
Review 6, 1964) makes pairs. It uses only + - × ÷ √, for which IEEE 754 has one result everywhere, and a logarithm
made of these. numpy's own logarithm differs between AVX2 and AVX512, and its generators may draw differently in
another version. Each block draws and reckons the same number of candidates whatever they are, so that the time tells
nothing of the values (the second attack of Jin et al.).

Noise reaches to twelve deviations, as candidates of 53 bits do. The exact rounded Gaussian goes beyond that once in
10^32 draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fl_core.errors import InvariantError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

IntArray: TypeAlias = NDArray[np.int64]

KEY_BYTES = 32
# Beyond that a double no longer holds each integer that the noise can be.
MAX_DEVIATION = 2.0**48

_OUTPUTS = 16384
"""Values from one block of candidates; a block's arrays stay in the cache."""
_CANDIDATES = 10880
"""Pairs from which they come. 8545 ± 43 lie in the unit circle, and 8192 are needed: eight deviations. A block that
falls short, one in 10^16, gives fewer values, and the next one follows."""
_LN2 = 0.6931471805599453
_MANTISSA = np.int64((1 << 52) - 1)
_ONE = np.int64(1023 << 52)
# ln((1 + t) / (1 - t)) = 2 t (1 + t²/3 + t⁴/5 + ...); t² < 0.0295, so that ten terms give 53 bits.
_SERIES = tuple(2.0 / (2 * k + 1) for k in range(10))


def rounded_gaussian(key: bytes, size: int, deviation: float) -> IntArray:
    """Integers round(N(0, ``deviation``²)).

    Args:
        key: 32 secret bytes that are used for this array and nothing else.
        size: how many, >= 0.
        deviation: in units of the grid, > 0 and at most 2^48; 0 gives zeros.

    Returns:
        int64 ``(size,)``.

    Raises:
        InvariantError: an argument is out of range.

    >>> rounded_gaussian(bytes(32), 5, 10.0).tolist()
    [9, -6, 15, 1, 19]
    """
    total = np.zeros(size, np.int64)
    add_rounded_gaussian(total, key, deviation)
    return total


def add_rounded_gaussian(total: IntArray, key: bytes, deviation: float) -> None:
    """``total`` <- ``total`` + round(N(0, ``deviation``²)), in place: the same integers as ``rounded_gaussian`` gives.

    Raises:
        InvariantError: an argument is out of range.
    """
    if len(key) != KEY_BYTES or not 0 <= deviation <= MAX_DEVIATION or total.ndim != 1 or total.dtype != np.int64:
        raise InvariantError(
            f"Noise of {deviation!r} was wanted, by a key of {len(key)} bytes for {total.dtype} {total.shape}."
        )
    if deviation == 0:
        return
    stream = _stream(key)
    block = _Block()
    start = 0
    while start < total.size:
        values = block.draw(stream, deviation)
        target = total[start : start + values.size]
        target += values[: target.size]
        start += target.size


def _stream(key: bytes) -> CipherContext:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    return Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()


class _Block:
    """The memory that one block of candidates takes."""

    def __init__(self) -> None:
        self._zeros = bytes(16 * _CANDIDATES)
        self._drawn = bytearray(16 * _CANDIDATES + 63)
        self._uniform = np.empty(2 * _CANDIDATES)
        self._squares = np.empty(2 * _CANDIDATES)
        self._s = np.empty(_CANDIDATES)
        self._t = np.empty(_CANDIDATES)
        self._t2 = np.empty(_CANDIDATES)
        self._ln = np.empty(_CANDIDATES)
        self._out = np.empty(2 * _CANDIDATES)
        self._rounded = np.empty(2 * _CANDIDATES, np.int64)

    def draw(self, stream: CipherContext, deviation: float) -> IntArray:
        """The next block's values, at most ``_OUTPUTS``; overwritten by the next call."""
        stream.update_into(self._zeros, self._drawn)
        bits = np.frombuffer(self._drawn, "<u8", 2 * _CANDIDATES)
        uniform, s = self._uniform, self._s
        # Odd multiples of 2^-53 in (-1, 1): never 0, and no step of this rounds.
        np.multiply(bits >> np.uint64(11), 2.0**-52, out=uniform)
        np.add(uniform, 2.0**-53 - 1.0, out=uniform)
        np.multiply(uniform, uniform, out=self._squares)
        np.add(self._squares[:_CANDIDATES], self._squares[_CANDIDATES:], out=s)
        inside = s < 1.0
        # What lies outside is reckoned as if it were 1/2, so that each block does the same work.
        np.copyto(s, 0.5, where=~inside)
        factor = self._factor(s)
        np.multiply(factor, deviation, out=factor)
        np.multiply(uniform[:_CANDIDATES], factor, out=self._out[:_CANDIDATES])
        np.multiply(uniform[_CANDIDATES:], factor, out=self._out[_CANDIDATES:])
        np.rint(self._out, out=self._out)
        self._rounded[:] = self._out
        chosen = np.flatnonzero(inside)[: _OUTPUTS // 2]
        return np.concatenate((self._rounded[chosen], self._rounded[chosen + _CANDIDATES]))

    def _factor(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        """√(-2 ln(s) / s)."""
        t, t2, ln = self._t, self._t2, self._ln
        bits = s.view(np.int64)
        exponent = (bits >> np.int64(52)) - np.int64(1023)
        mantissa = ((bits & _MANTISSA) | _ONE).view(np.float64)  # in [1, 2)
        high = mantissa > 1.4142135623730951
        np.copyto(mantissa, mantissa * 0.5, where=high)
        np.add(exponent, high, out=exponent)
        np.divide(mantissa - 1.0, mantissa + 1.0, out=t)
        np.multiply(t, t, out=t2)
        ln.fill(_SERIES[-1])
        for coefficient in _SERIES[-2::-1]:
            np.multiply(ln, t2, out=ln)
            np.add(ln, coefficient, out=ln)
        np.multiply(ln, t, out=ln)
        np.add(ln, np.multiply(exponent, _LN2, out=t2), out=ln)
        np.multiply(ln, -2.0, out=ln)
        np.divide(ln, s, out=ln)
        return np.sqrt(ln, out=ln)
