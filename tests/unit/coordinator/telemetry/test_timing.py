"""Where the time goes: parts add up to the whole, and nobody's word can spoil the sums."""

from __future__ import annotations

import math

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.telemetry.timing import MAX_SECONDS, PARTS, Timing
from fl_core.wire.histogram import SECONDS, histograms
from fl_core.wire.status import TimingStatus


def test_parts_add_up_to_the_life_of_the_update() -> None:
    """From issue to merge: what the worker does not account for, the server's clock calls sending."""
    timing = Timing()
    reported = {"queue": 1.0, "fetch": 0.2, "train": 3.0, "encode": 0.1}
    timing.add_update(reported, life_seconds=4.8, log_seconds=0.05, merge_seconds=0.01)
    sums = {part: each.sum for part, each in timing.export().parts.items()}
    assert sums == pytest.approx(reported | {"send": 0.5, "log": 0.05, "merge": 0.01})


@given(st.dictionaries(st.sampled_from([*PARTS, "other"]), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_worker_cannot_spoil_the_sums(reported: dict[str, float]) -> None:
    """Negative, huge and unknown values are bounded, and every part is counted once."""
    timing = Timing()
    timing.add_update(reported, life_seconds=1.0, log_seconds=-1.0, merge_seconds=0.0)
    exported = timing.export()
    assert all(0.0 <= each.sum <= MAX_SECONDS and math.isfinite(each.sum) for each in exported.parts.values())
    assert all(each.total == 1 for each in exported.parts.values())


def test_counts_survive_a_new_coordinator_and_stay_small() -> None:
    """What the status carries can be restored, weighs about a kilobyte, and foreign content is left alone."""
    timing, other = Timing(), Timing()
    for seconds in SECONDS:
        timing.add_update({"train": seconds}, life_seconds=seconds, log_seconds=0.0, merge_seconds=0.0)
    timing.add_publish(0.25)
    timing.add_evaluation(1.5)
    timing.add_checkpoint(0.7)
    other.restore(timing.export())
    foreign = histograms(PARTS, (1.0, 2.0))
    other.restore(TimingStatus(9, histograms(("a",), SECONDS), foreign, foreign))
    other.restore(None)
    assert other.export() == timing.export()
    assert other.export().parts["train"].counts == [1] * len(SECONDS) + [0]
    work = other.export().work
    assert {name: each.sum for name, each in work.items()} == {"publish": 0.25, "evaluate": 1.5, "checkpoint": 0.7}
    assert len(msgpack.packb(timing.export().to_map())) < 1500
    timing.restore(TimingStatus(9, foreign, foreign, foreign))
    assert timing.export().parts == other.export().parts, "of histograms of another form nothing is taken"
