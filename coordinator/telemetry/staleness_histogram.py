"""Staleness in buckets: a histogram whose size does not depend on how far behind the slowest worker is."""

from __future__ import annotations

from collections.abc import Iterable

from fl_core.wire.histogram import Histogram

# Upper bounds, in versions; one more bucket holds the rest. Every value that a healthy campaign sees has its own.
STALENESS_BOUNDS = (0, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100)


def staleness_histogram(counts: Iterable[tuple[int, int]]) -> Histogram:
    """Of (staleness, count) pairs.

    >>> staleness_histogram([(0, 2), (6, 1), (7, 1), (1000, 3)]).counts
    [2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 3]
    """
    return Histogram.of(STALENESS_BOUNDS, counts)


def staleness_labels() -> list[str]:
    """What people call the buckets.

    >>> staleness_labels()[4:8], staleness_labels()[-1]
    (['4', '5', '6–7', '8–10'], '>100')
    """
    below = (-1, *STALENESS_BOUNDS)
    pairs = zip(below, STALENESS_BOUNDS, strict=False)
    names = [str(high) if low + 1 == high else f"{low + 1}–{high}" for low, high in pairs]
    return [*names, f">{STALENESS_BOUNDS[-1]}"]
