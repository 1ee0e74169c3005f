"""Masks: the key stream of ChaCha20 (RFC 8439) under a seed, read as integers modulo 2**32."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Residues: TypeAlias = npt.NDArray[np.uint32]
"""Integers modulo 2**32, of shape ``(num_elements,)``."""

_BLOCK = 32_768
_ZEROS = bytes(4 * _BLOCK)
_NONCE = bytes(16)


def add_mask(total: Residues, seed: bytes, weight: int = 1) -> None:
    """total <- total + weight · mask(seed) modulo 2**32, in place and block by block.

    Args:
        seed: 32 bytes, of this one update.
        weight: from 0 up to 2**32 - 1.
    """
    # Here and not above: a coordinator without keepers need not have the package.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    stream = Cipher(algorithms.ChaCha20(seed, _NONCE), mode=None).encryptor()
    for start in range(0, total.size, _BLOCK):
        part = total[start : start + _BLOCK]
        mask = np.frombuffer(stream.update(_ZEROS[: 4 * part.size]), "<u4")
        part += mask if weight == 1 else mask * np.uint32(weight)


def residues(values: npt.NDArray[np.int64]) -> Residues:
    """Whole numbers modulo 2**32.

    >>> residues(np.array([-1, 5], np.int64)).tolist()
    [4294967295, 5]
    """
    return values.astype(np.uint32)


def whole_numbers(total: Residues) -> npt.NDArray[np.int64]:
    """The numbers from -2**31 up to 2**31 - 1 that these are.

    >>> whole_numbers(np.array([4294967295, 5], np.uint32)).tolist()
    [-1, 5]
    """
    return total.view(np.int32).astype(np.int64)
