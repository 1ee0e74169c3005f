"""Residues from anybody are read or refused, and added as integers are."""

from __future__ import annotations

import numpy as np
import pytest

from fl_core.encrypted_sum import ciphertexts
from fl_core.encrypted_sum.ciphertexts import MAX_WEIGHT, PIECE_BYTES, PRIME, SLOTS
from fl_core.errors import Reason, RejectedUpdate

RANDOM = np.random.default_rng(3)


def _residues(num_elements: int) -> np.ndarray:
    size = ciphertexts.zero(num_elements).size
    edges = np.array([0, 1, PRIME - 1, PRIME // 2, PRIME - 2], np.uint64)
    found = RANDOM.integers(0, PRIME, size, np.uint64)
    found[: edges.size] = edges
    return found


@pytest.mark.parametrize("num_elements", [1, SLOTS, SLOTS + 1, 3 * SLOTS])
def test_sizes(num_elements: int) -> None:
    """What was written is read in the payload's own memory, and a byte more or less is refused."""
    residues = _residues(num_elements)
    payload = residues.astype("<u8").tobytes()
    assert len(payload) == ciphertexts.num_bytes(num_elements)
    assert (ciphertexts.read(payload, num_elements) == residues).all()
    for wrong in (b"", payload[:-1], payload + b"\0", payload[:-8], payload + bytes(PIECE_BYTES)):
        with pytest.raises(RejectedUpdate) as refused:
            ciphertexts.read(wrong, num_elements)
        assert refused.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("number", [PRIME, PRIME + 1, 2**63, 2**64 - 1])
def test_what_is_no_residue_is_refused(number: int) -> None:
    """Wherever it stands."""
    for place in (0, -1, 8191, 8192):
        residues = _residues(1)
        residues[place] = number
        with pytest.raises(RejectedUpdate, match="no residue"):
            ciphertexts.read(residues.astype("<u8").tobytes(), 1)


def test_added_as_integers_are() -> None:
    """Any number of ciphertexts with any weights, against Python's integers."""
    total = ciphertexts.zero(1)
    exact = np.zeros(total.size, object)
    for weight in [1, 2, 3, 5, 8, 13, MAX_WEIGHT, MAX_WEIGHT, MAX_WEIGHT - 1]:
        part = _residues(1)
        ciphertexts.add(total, part, weight)
        exact = (exact + part.astype(object) * weight) % PRIME
        assert (total.astype(object) == exact).all()


def test_blocks_are_no_matter() -> None:
    """A vector of many pieces gives what its pieces give."""
    num_elements = 70 * SLOTS
    total, first, second = ciphertexts.zero(num_elements), _residues(num_elements), _residues(num_elements)
    ciphertexts.add(total, first, 16)
    ciphertexts.add(total, second, 7)
    for start in (0, 32 * 16384, total.size - 16384):
        part = ciphertexts.zero(SLOTS)
        ciphertexts.add(part, first[start : start + 16384], 16)
        ciphertexts.add(part, second[start : start + 16384], 7)
        assert (total[start : start + 16384] == part).all()


@pytest.mark.parametrize("weight", [0, -1, MAX_WEIGHT + 1, 1 << 40])
def test_weights_beyond_the_bound(weight: int) -> None:
    """They would leave 64 bits."""
    with pytest.raises(ValueError, match="weight"):
        ciphertexts.add(ciphertexts.zero(1), _residues(1), weight)


@pytest.mark.parametrize("buffer_size", [1, 2, 7, 64, 1000, 2047])
def test_scale_leaves_room_for_the_sum(buffer_size: int) -> None:
    """The largest sum stays below p / 2, and one bit more of scale would not leave the bit that is kept free."""
    total_weight = 16 * buffer_size
    bits = ciphertexts.scale_bits(1 << 16, total_weight)
    largest = (total_weight << 16) << bits
    assert largest <= 2**58 < PRIME // 2
    assert bits == 40 or 2 * largest > 2**58
