"""Staleness in buckets: a histogram whose size does not depend on how far behind the slowest worker is."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

# Upper bounds, in versions; one more bucket holds the rest. Every value that a healthy campaign sees has its own.
STALENESS_BOUNDS = (0, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100)


def staleness_buckets(counts: Iterable[tuple[int, int]]) -> list[int]:
    """Counts per bucket, of (staleness, count) pairs; one entry more than there are bounds.

    >>> staleness_buckets([(0, 2), (6, 1), (7, 1), (1000, 3)])
    [2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 3]
    """
    buckets = [0] * (len(STALENESS_BOUNDS) + 1)
    for value, count in counts:
        buckets[bisect_left(STALENESS_BOUNDS, value)] += count
    return buckets


def staleness_histogram(counts: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """What the status carries: bounds, counts per bucket, and the sum of all values."""
    pairs = list(counts)
    return {
        "bounds": list(STALENESS_BOUNDS),
        "counts": staleness_buckets(pairs),
        "sum": sum(value * count for value, count in pairs),
    }
