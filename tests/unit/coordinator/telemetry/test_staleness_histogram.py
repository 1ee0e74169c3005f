"""Staleness in buckets: every value has one, and the names of the buckets say which."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from coordinator.telemetry.staleness_histogram import STALENESS_BOUNDS, staleness_histogram, staleness_labels


@given(st.integers(0, 10_000))
def test_a_value_lies_in_the_bucket_of_its_name(value: int) -> None:
    """As people read them: one number, a range, or more than the last bound."""
    counts = staleness_histogram([(value, 3)]).counts
    (label,) = [label for label, count in zip(staleness_labels(), counts, strict=True) if count]
    numbers = [int(number) for number in re.findall(r"\d+", label)]
    assert value > numbers[0] if label.startswith(">") else numbers[0] <= value <= numbers[-1]
    assert sum(counts) == 3
    assert len(counts) == len(STALENESS_BOUNDS) + 1
