"""The two halves of a key: with one a device encrypts, with the other a keeper opens sums. Needs TenSEAL."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.encrypted_sum import seal_bytes
from fl_core.encrypted_sum.ciphertexts import (
    DEGREE,
    PIECE_BYTES,
    PRIME,
    SLOTS,
    SPECIAL_PRIME,
    Residues,
    num_pieces,
    read,
    verify_size,
)
from fl_core.errors import SpecError
from fl_core.program.extras import need

Integers = npt.NDArray[np.int64]

PUBLIC_KEY_BYTES = 4 * DEGREE * 8
"""Two polynomials modulo each of the two primes."""

# Fields of TenSEAL's messages.
_PARAMETERS, _PUBLIC_KEY = 1, 2
_SIZES, _CIPHERTEXTS, _SCALE = 1, 2, 3
_KEY = 1


class PublicKey:
    """What a device encrypts with.

    Args:
        residues: little-endian uint64, ``PUBLIC_KEY_BYTES``; from a keeper, so looked at before TenSEAL sees them.

    Raises:
        SpecError: TenSEAL is missing, or these are no key.
    """

    def __init__(self, residues: bytes) -> None:
        need("codec.name = 'ckks'", "tenseal", "zstandard")
        if len(residues) != PUBLIC_KEY_BYTES:
            raise SpecError(f"a public key has {PUBLIC_KEY_BYTES} bytes, and this one {len(residues)}; ask its keeper.")
        rows = np.frombuffer(residues, "<u8").reshape(2, 2, DEGREE)
        if (rows.max(axis=(0, 2)) >= np.array([PRIME, SPECIAL_PRIME], np.uint64)).any():
            raise SpecError("a public key holds a number that is no residue; ask its keeper for it again.")
        self.residues = residues
        self._context = _with_public_key(residues)

    def encrypt(self, values: Integers, scale: int) -> bytes:
        """Encrypt a vector, each time differently.

        Args:
            values: int64 ``(num_elements,)``.
            scale: the exponent of ``ciphertexts.scale_bits``.

        Returns:
            ``num_bytes(num_elements)`` bytes.

        Raises:
            SpecError: the vector is too long (``verify_size``).
        """
        import tenseal

        verify_size(values.size)

        pieces = []
        for start in range(0, values.size, SLOTS):
            plain = np.zeros(SLOTS)
            part = values[start : start + SLOTS]
            plain[: part.size] = part
            encrypted = tenseal.ckks_vector(self._context, plain.tolist(), 2.0**scale).serialize()
            stream = seal_bytes.fields(encrypted)[_CIPHERTEXTS]
            pieces.append(seal_bytes.unwrap(stream, PIECE_BYTES)[1])
        return b"".join(pieces)


class SecretKey:
    """What a keeper opens sums with. ``SecretKey.new()`` makes one.

    Args:
        stored: as ``to_bytes`` gave it, from the keeper's own disk.

    Raises:
        SpecError: TenSEAL is missing, or these bytes are no key of this version.
    """

    def __init__(self, stored: bytes) -> None:
        need("codec.name = 'ckks'", "tenseal", "zstandard")
        import tenseal

        try:
            self._context = tenseal.context_from(stored)
            if not self._context.is_private():
                raise ValueError("it has no secret half")
            public = seal_bytes.fields(seal_bytes.fields(stored)[_PUBLIC_KEY])[_KEY]
            residues = seal_bytes.unwrap(public, PUBLIC_KEY_BYTES)[1]
        except (ValueError, KeyError, RuntimeError) as error:
            raise SpecError(f"the stored key for encrypted sums cannot be read: {error}.") from None
        self._stored = stored
        self.public = PublicKey(residues)

    @classmethod
    def new(cls) -> SecretKey:
        """A new key, from the operating system's randomness."""
        need("codec.name = 'ckks'", "tenseal", "zstandard")
        return cls(_serialize(_new_context(), secret=True))

    def to_bytes(self) -> bytes:
        """For the keeper's own disk, readable by its owner alone."""
        return self._stored

    def open(self, total: memoryview | bytes | Residues, num_elements: int, scale: int) -> Integers:
        """Decrypt a sum and round it.

        Args:
            total: as ``ciphertexts.add`` made it.
            scale: with which all of its parts were encrypted.

        Returns:
            int64 ``(num_elements,)``: the weighted sum of what was encrypted, exact while no element of it reaches
            ``2 ** (58 - scale)``.

        Raises:
            RejectedUpdate: it has another length, or a number that is no residue (malformed).
        """
        import tenseal

        residues = read(np.ascontiguousarray(total).data if isinstance(total, np.ndarray) else total, num_elements)
        like, before = _form_of_ciphertexts(scale)
        opened: Integers = np.empty(num_pieces(num_elements) * SLOTS, np.int64)
        for piece, part in enumerate(residues.astype("<u8", copy=False).reshape(-1, 2 * DEGREE)):
            message = (
                seal_bytes.packed(_SIZES, SLOTS)
                + seal_bytes.field(_CIPHERTEXTS, seal_bytes.wrap(like, before, part.tobytes()))
                + seal_bytes.double(_SCALE, 2.0**scale)
            )
            values = tenseal.ckks_vector_from(self._context, message).decrypt()
            opened[piece * SLOTS : (piece + 1) * SLOTS] = np.rint(values)
        return opened[:num_elements]


def _new_context() -> Any:
    import tenseal
    import tenseal.sealapi  # it registers the types of what is asked below

    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, DEGREE, coeff_mod_bit_sizes=[60, 60])
    primes = [prime.value() for prime in context.seal_context().data.key_context_data().parms().coeff_modulus()]
    if primes != [PRIME, SPECIAL_PRIME]:
        raise SpecError(f"this TenSEAL chooses other primes ({primes}) than fedtide; install the version of the lock.")
    return context


def _serialize(context: Any, *, secret: bool) -> bytes:
    stored: bytes = context.serialize(
        save_public_key=True, save_secret_key=secret, save_galois_keys=False, save_relin_keys=False
    )
    return stored


def _with_public_key(residues: bytes) -> Any:
    """A context that encrypts for somebody else: our own, with the numbers of its key replaced."""
    import tenseal

    own = seal_bytes.fields(_serialize(_new_context(), secret=False))
    stream = seal_bytes.fields(own[_PUBLIC_KEY])[_KEY]
    before, _ = seal_bytes.unwrap(stream, PUBLIC_KEY_BYTES)
    key = seal_bytes.field(_KEY, seal_bytes.wrap(stream, before, residues))
    return tenseal.context_from(seal_bytes.field(_PARAMETERS, own[_PARAMETERS]) + seal_bytes.field(_PUBLIC_KEY, key))


@functools.lru_cache(maxsize=4)
def _form_of_ciphertexts(scale: int) -> tuple[bytes, bytes]:
    """A stream's header and what stands before the numbers, for this scale: read off a ciphertext of our own."""
    import tenseal

    encrypted = tenseal.ckks_vector(_new_context(), [0.0] * SLOTS, 2.0**scale).serialize()
    stream = seal_bytes.fields(encrypted)[_CIPHERTEXTS]
    before, _ = seal_bytes.unwrap(stream, PIECE_BYTES)
    return stream, before
