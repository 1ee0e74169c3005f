"""A run's history as points, the same for every program that shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from coordinator.storage.history import scores_of

MIN_INTERVAL_SECONDS = 0.5


INTERVAL_SHARE = 1 / 1000


Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Point:
    """Values at one moment.

    Attributes:
        seconds: campaign time.
        step: the model's version.
        values: by name, such as ``evaluation/accuracy``.
    """

    seconds: float
    step: int
    values: Mapping[str, float]


class Target(Protocol):
    """Where points go."""

    def write(self, points: Iterable[Point]) -> int:
        """Take points in; how many of them are new to it."""

    def close(self, state: str) -> None:
        """No more points for now; the campaign is in this state."""


def points(lines: Iterable[Line]) -> Iterator[Point]:
    """A history as points. What has not filled its interval when the lines end is kept back: it comes with the rest."""
    since, merged, staleness, version = 0.0, 0, list[int](), 0
    rejected: Counter[str] = Counter()
    reissued = 0
    for line in lines:
        seconds, ends = line["seconds"], line["kind"] == "end"
        if seconds - since >= max(MIN_INTERVAL_SECONDS, seconds * INTERVAL_SHARE) or ends:
            values = {f"rejected/{reason}": float(count) for reason, count in sorted(rejected.items())}
            if staleness:
                values |= {
                    "merges/updates_per_second": len(staleness) / max(seconds - since, 1e-3),
                    "merges/staleness_mean": sum(staleness) / len(staleness),
                    "merges/staleness_max": float(max(staleness)),
                    "merges/merged": float(merged),
                }
            if values or reissued:
                yield Point(seconds, version, {**values, "tasks/reissued": float(reissued)})
            since, staleness = seconds, []
        match line["kind"]:
            case "merge":
                version, merged = line["version"], line["merged"]
                staleness += line["staleness"]
            case "rejection":
                rejected[line["reason"]] += 1
            case "reissue":
                reissued += 1
            case "evaluation":
                scores = {f"evaluation/{name}": value for name, value in scores_of(line).items()}
                yield Point(seconds, line["version"], {k: v for k, v in scores.items() if v is not None})
