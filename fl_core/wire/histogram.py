"""Histograms over fixed bounds: how values are counted, read as quantiles, written down, and given to Prometheus.

On the wire a histogram is ``{"bounds": [...], "counts": [...], "sum": x}``; several over the same bounds share them:
``{"bounds": [...], "sums": {name: x}, "counts": {name: [...]}}``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.core import HistogramMetricFamily

# What programs time, from a tenth of a millisecond to five minutes, two buckets per decade.
SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


def bucket(bounds: tuple[float, ...], value: float) -> int:
    """The place of a value's bucket: that of the first bound that is not below it, or the last one for the rest.

    >>> [bucket((1.0, 2.0), value) for value in (0.0, 1.0, 1.5, 9.0)]
    [0, 0, 1, 2]
    """
    return bisect_left(bounds, value)


@dataclass(slots=True)
class Histogram:
    """Counts per bucket, and the sum of all values.

    Attributes:
        bounds: upper bounds of the buckets, rising; a bound belongs to the bucket that it ends.
        counts: one more than there are bounds: the last holds the rest.
        sum: of all values, in their unit.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    @classmethod
    def of(cls, bounds: tuple[float, ...], values: Iterable[tuple[int, int]]) -> Histogram:
        """Of whole numbers, each with how often it was seen; the sum is a whole number too.

        >>> Histogram.of((0, 2), [(0, 5), (2, 1), (7, 2)])
        Histogram(bounds=(0, 2), counts=[5, 1, 2], sum=16)
        """
        made = cls(bounds, sum=0)
        for value, count in values:
            made.add(value, count)
        return made

    def add(self, value: float, count: int = 1) -> None:
        """Count a value, or the same one several times."""
        self.counts[bucket(self.bounds, value)] += count
        self.sum += value * count

    @property
    def total(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Of all values; 0 without any."""
        return self.sum / self.total if self.total else 0.0

    def quantile(self, share: float) -> float | None:
        """By linear interpolation inside its bucket; the highest bound at most, and None without any value.

        >>> Histogram((1.0, 2.0), [0, 10, 0]).quantile(0.5)
        1.5
        """
        wanted, seen = share * self.total, 0
        if not self.total:
            return None
        for index, count in enumerate(self.counts):
            if count and seen + count >= wanted:
                if index == len(self.bounds):
                    break
                low = self.bounds[index - 1] if index else 0.0
                return round(low + (self.bounds[index] - low) * (wanted - seen) / count, 4)
            seen += count
        return self.bounds[-1]

    def cumulative(self) -> list[tuple[str, float]]:
        """Buckets as Prometheus has them: each with all below it.

        >>> Histogram((1.0, 2.0), [3, 0, 1]).cumulative()
        [('1.0', 3.0), ('2.0', 3.0), ('+Inf', 4.0)]
        """
        names = [*(str(float(bound)) for bound in self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))

    def sample(self, family: HistogramMetricFamily, *labels: str) -> None:
        """Put it into a family of Prometheus' metrics."""
        family.add_metric(list(labels), self.cumulative(), self.sum)

    def to_map(self) -> dict[str, Any]:
        """Plain types."""
        return {"bounds": list(self.bounds), "counts": list(self.counts), "sum": self.sum}

    @classmethod
    def from_map(cls, found: Mapping[str, Any]) -> Histogram:
        """The inverse, of a map that has this form."""
        return cls(tuple(found["bounds"]), list(found["counts"]), found["sum"])


Histograms = dict[str, Histogram]
"""By name, all over the same bounds."""


def histograms(names: Iterable[str], bounds: tuple[float, ...]) -> Histograms:
    """Empty ones."""
    return {name: Histogram(bounds) for name in names}


def histograms_to_map(histograms: Mapping[str, Histogram]) -> dict[str, Any]:
    """Plain types: the bounds that they share, and by name ``sums`` (to four digits) and ``counts``."""
    return {
        "bounds": list(next(iter(histograms.values())).bounds),
        "sums": {name: round(each.sum, 4) for name, each in histograms.items()},
        "counts": {name: list(each.counts) for name, each in histograms.items()},
    }


def histograms_from_map(found: Mapping[str, Any]) -> Histograms:
    """The inverse, of a map that has this form."""
    bounds = tuple(found["bounds"])
    return {name: Histogram(bounds, list(found["counts"][name]), total) for name, total in found["sums"].items()}
