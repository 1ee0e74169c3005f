"""The sum of clipped updates: integers, in any order the same, and whole after a checkpoint."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.campaign.private.sum import SUM, ClippedSum
from fl_core.errors import CampaignError
from fl_core.privacy.grid import RESOLUTION


def filled(*order: int, size: int = 8) -> ClippedSum:
    """A sum of updates, in this order."""
    found = ClippedSum(size, count_bits=True)
    for number in order:
        vector = np.full(size, 0.1 * number, np.float32)
        found.add(
            vector, clip=1.0, weight=0.5, staleness=number, worker=f"w{number}", evidence=bytes([number]) * 32
        )  # fmt: skip
    return found


def test_the_order_of_arrival_changes_no_bit_of_the_sum() -> None:
    """As no float sum could promise."""
    np.testing.assert_array_equal(filled(1, 2, 3).total, filled(3, 1, 2).total)
    assert filled(1).total.tolist() == [round(0.5 * float(np.float32(0.1)) * RESOLUTION)] * 8


def test_bits_say_who_was_within_the_clip() -> None:
    """Norms of 0.28, 0.57 and 2.8 against a clip of 1."""
    assert filled(1, 2, 10).bits == RESOLUTION // 2


def test_a_checkpoint_holds_all_of_it() -> None:
    """An empty one has no array, and forgets what was there before."""
    before = filled(1, 2)
    tensors, meta = before.export()
    after = ClippedSum(8, count_bits=True)
    after.restore(tensors, meta)
    after.add(np.ones(8, np.float32), clip=1.0, weight=1.0, staleness=0, worker="w", evidence=b"")
    before.add(np.ones(8, np.float32), clip=1.0, weight=1.0, staleness=0, worker="w", evidence=b"")
    np.testing.assert_array_equal(after.total, before.total)
    assert after.export()[1] == before.export()[1]
    before.clear()
    assert before.export() == ({}, ClippedSum(8).export()[1])


def test_a_sum_of_another_model_is_refused() -> None:
    """Or one that is not there."""
    tensors, meta = filled(1, size=9).export()
    for found in (tensors, {}, {SUM: np.zeros((8, 1), np.int64)}):
        with pytest.raises(CampaignError, match="private sum is missing or of another model"):
            ClippedSum(8).restore(found, meta)
