"""Masks: the stream that the standard says, weighed modulo 2**32."""

from __future__ import annotations

import numpy as np
import pytest

from fl_core.secure_aggregation.masks import Residues, add_mask, residues, whole_numbers


def mask(seed: bytes, size: int) -> Residues:
    total: Residues = np.zeros(size, np.uint32)
    add_mask(total, seed)
    return total


def test_the_stream_is_chacha20() -> None:
    """The first test vector of RFC 8439, appendix A.1: key and nonce of zeros, block 0."""
    block = bytes.fromhex(
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    )
    assert mask(bytes(32), 16).tobytes() == block


@pytest.mark.parametrize("size", [1, 16, 32_768, 32_769, 100_000])
@pytest.mark.parametrize("weight", [0, 1, 2, 16, 2**32 - 1])
def test_a_weighed_mask_is_the_mask_so_often(size: int, weight: int) -> None:
    """Whatever the blocks are, and with overflow."""
    seed, total = bytes(range(32)), np.arange(size, dtype=np.uint32)
    add_mask(total, seed, weight)
    wanted = (np.arange(size, dtype=np.uint64) + mask(seed, size).astype(np.uint64) * weight) % 2**32
    assert np.array_equal(total, wanted.astype(np.uint32))


def test_numbers_come_back() -> None:
    """From the lowest to the highest that 32 bits hold."""
    numbers = np.array([-(2**31), -1, 0, 1, 2**31 - 1], np.int64)
    assert whole_numbers(residues(numbers)).tolist() == numbers.tolist()


def test_a_mask_looks_like_chance() -> None:
    """Bytes of 65 536 masks' elements, chi-square over 256 values; 1 in 10**6 would fail by chance."""
    counts = np.bincount(np.frombuffer(mask(bytes(31) + b"\x07", 65_536).tobytes(), np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 372
