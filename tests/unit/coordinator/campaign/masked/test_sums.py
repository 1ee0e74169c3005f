"""The vector that cannot be read, and what a log entry announces in a keeper's name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator.campaign.masked.sums import MaskedSums, MaskedVector, announced_sum
from fl_core.errors import InvariantError
from fl_core.spec import parse_spec
from fl_core.vectors import Delta
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec
from tests.unit.coordinator.campaign.masked.masked_log import MaskedLog


def test_nobody_reads_a_masked_update() -> None:
    """What would decode it is a fault of ours."""
    with pytest.raises(InvariantError):
        _ = Delta(MaskedVector(np.zeros(3, np.uint32), b"h")).values


def test_a_campaign_without_keepers_has_no_sums() -> None:
    """And costs nothing."""
    layout = Layout((TensorSpec("w", (3,)),))
    assert MaskedSums.of(parse_spec({"model": {"factory": "a:b"}}), layout) is None


def test_the_payload_of_an_answer_is_fetched_and_dropped_by_its_name(tmp_path: Path) -> None:
    """Of the keeper's own, and no larger than a sum can be; whoever signed it."""
    masked = MaskedLog(tmp_path)
    one = masked.fill(1, 2, 3)
    blob = f"keeper-0:sum-{one.digest[:24]}.1"
    answer = masked.answer(one, "keeper-0", (1, 2), blob=blob, num_chunks=1)
    named = masked.log.entry("k", answer.header)
    assert announced_sum(named, 64) == (blob, 256)
    assert masked.log.state.announced(named) == masked.log.state.blob_of(named) == (blob, 256)
    assert announced_sum(named, 63) is None
    assert announced_sum(answer, 64) is None
    other = masked.answer(one, "keeper-0", (1, 2), blob="dev-1:7-ab.1", num_chunks=1)
    assert announced_sum(masked.log.entry("k", other.header), 64) is None
    masked.log.blobs[blob] = answer.payload
    effects = masked.log.apply(named)
    assert effects.blob == (blob, 256)
    assert one.missing == {0}


def test_an_answer_whose_payload_is_gone_is_asked_for_again(tmp_path: Path) -> None:
    """Nothing has changed but a word in the log."""
    masked = MaskedLog(tmp_path)
    one = masked.fill(1, 2, 3)
    answer = masked.answer(one, "keeper-0", (1, 2), blob=f"keeper-0:sum-{one.digest[:24]}.1", num_chunks=1)
    effects = masked.log.apply(masked.log.entry("k", answer.header))
    assert "asking again" in effects.unopened
    assert one.missing == {0, 1, 2}
