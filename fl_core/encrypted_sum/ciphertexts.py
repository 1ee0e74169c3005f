"""Ciphertexts as residues modulo a prime: read from an untrusted sender, and added."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fl_core.errors import Reason, RejectedUpdate, SpecError

Residues = npt.NDArray[np.uint64]

DEGREE = 8192
"""Of the ring. With two primes of 60 bits that is above 128 bits of security (218 bits of modulus are allowed, the
homomorphic encryption standard, table 1)."""

SLOTS = DEGREE // 2
"""Elements in one piece."""

PRIME = 1152921504606748673
"""The modulus p of ciphertexts: the largest below 2^60 that TenSEAL chooses for this degree and these sizes."""

SPECIAL_PRIME = 1152921504606830593
"""The second modulus, of keys alone."""

MAX_WEIGHT = 16
"""Of one ciphertext in a sum: 16 · p is below 2^64."""

MAX_ELEMENTS = 1_000_000
"""Of one vector; each takes 32 bytes up, and the sum as many again to the keeper."""

PIECE_BYTES = 2 * DEGREE * 8

_BLOCK = 32 * 2 * DEGREE


def num_pieces(num_elements: int) -> int:
    """Pieces of a vector: each holds ``SLOTS`` elements."""
    return -(-num_elements // SLOTS)


def num_bytes(num_elements: int) -> int:
    """Exactly what an encrypted vector of that size takes.

    >>> num_bytes(100_000)
    3276800
    """
    return num_pieces(num_elements) * PIECE_BYTES


def verify_size(num_elements: int) -> None:
    """Refuse a vector that is too long to be encrypted by every device.

    Raises:
        SpecError: it has more than ``MAX_ELEMENTS``.
    """
    if num_elements > MAX_ELEMENTS:
        raise SpecError(
            f"codec.name = 'ckks' encrypts at most {MAX_ELEMENTS:,} parameters, and there are {num_elements:,}: each "
            f"update would take {num_bytes(num_elements) / 1e6:,.0f} MB; train a part of the model or adapters, or use "
            "keepers' masks, which take four bytes for each."
        )


def scale_bits(resolution: int, total_weight: int) -> int:
    """The exponent of the scale: the largest with which a sum of norm ``resolution * total_weight`` does not wrap.

    A coefficient is at most as large as the largest element, times the scale, and one bit is kept free.

    >>> scale_bits(1 << 16, 16 * 10), scale_bits(1 << 16, 16 * 2047)
    (34, 27)
    """
    return min(40, 58 - (resolution * total_weight - 1).bit_length())


def read(payload: memoryview | bytes, num_elements: int) -> Residues:
    """A ciphertext from an untrusted sender, in its own memory: uint64 ``(pieces · 2 · DEGREE,)``, all below ``PRIME``.

    Raises:
        RejectedUpdate: it has another length, or a number that is no residue (malformed).
    """
    size, expected = memoryview(payload).nbytes, num_bytes(num_elements)
    if size != expected:
        raise RejectedUpdate(
            Reason.MALFORMED, f"the encrypted payload has {size} bytes; {num_elements} elements take {expected}."
        )
    residues = np.frombuffer(payload, "<u8").astype(np.uint64, copy=False)
    if residues.size and int(residues.max()) >= PRIME:
        raise RejectedUpdate(Reason.MALFORMED, "the encrypted payload holds a number that is no residue.")
    return residues


def zero(num_elements: int) -> Residues:
    """The sum of no ciphertexts."""
    return np.zeros(num_pieces(num_elements) * 2 * DEGREE, np.uint64)


def add(total: Residues, ciphertext: Residues, weight: int) -> None:
    """Add ``weight`` times a ciphertext to a sum, in place; what is encrypted is added the same way.

    Args:
        total, ciphertext: uint64 of the same shape, all below ``PRIME``.
        weight: from 1 to ``MAX_WEIGHT``.

    Raises:
        ValueError: the weight is another.
    """
    if not 1 <= weight <= MAX_WEIGHT:
        raise ValueError(f"a weight is from 1 to {MAX_WEIGHT}; this one is {weight}.")
    prime, factor = np.uint64(PRIME), np.uint64(weight)
    for start in range(0, total.size, _BLOCK):  # blocks that stay in a cache
        part = total[start : start + _BLOCK]
        more = ciphertext[start : start + _BLOCK] * factor
        if weight > 1:
            more %= prime
        part += more
        # Below 2 p: without the overflow of a subtraction the smaller of both is the residue.
        np.minimum(part, part - prime, out=part)
