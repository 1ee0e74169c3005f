"""A campaign's distance from the conditions under ``[stop]``: one sentence for terminals and the monitor's page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from coordinator.telemetry.units import scores
from fl_core.wire.status import Status

# From less than this share the time that is left cannot be estimated.
_MIN_SHARE = 0.02


class Goal(NamedTuple):
    """One condition.

    Attributes:
        share: how much of it is reached, in [0, 1].
        text: what it is.
        seconds_left: at the pace until now; None where that says nothing, as it does of a score.
    """

    share: float
    text: str
    seconds_left: float | None = None

    @property
    def sentence(self) -> str:
        """For people.

        >>> Goal(0.5, "40 updates", 12.0).sentence
        '50% of 40 updates, about 12 s left'
        """
        left = "" if self.seconds_left is None else f", about {self.seconds_left:.0f} s left"
        return f"{self.share:.0%} of {self.text}{left}"


def nearest_goal(status: Status) -> Goal | None:
    """The condition that is nearest; None where there is none, and the campaign runs until it is stopped.

    >>> nearest_goal(Status(stop={"updates": 40}, merged=10, wall_seconds=4.0))
    Goal(share=0.25, text='40 updates', seconds_left=12.0)
    """
    return max([*_of_counts(status), *_of_scores(status)], key=lambda goal: goal.share, default=None)


def _of_counts(status: Status) -> Iterator[Goal]:
    seconds, stop = status.wall_seconds, status.stop or {}
    for key, now in (("updates", status.merged), ("versions", status.versions), ("seconds", seconds)):
        if bound := stop.get(key):
            share = now / bound
            left = seconds * (1 / share - 1) if _MIN_SHARE < share < 1 else None
            yield Goal(min(1.0, share), f"{bound:g} {'s' if key == 'seconds' else key}", left)


def _of_scores(status: Status) -> Iterator[Goal]:
    bests = {score.name: score.best for score in scores(status)}
    for target in status.targets or ():
        name, bound, is_higher_better = target.metric, target.bound, target.higher_is_better
        best = bests.get(name)
        side = "at least" if is_higher_better else "at most"
        yield Goal(_share(best, bound, is_higher_better), f"{name.replace('_', ' ')} {side} {bound:g}")


def _share(best: float | None, bound: float, is_higher_better: bool) -> float:
    """How near the best score is to a bound; of numbers with a sign there is no share before it is met.

    >>> _share(0.45, 0.9, True), _share(2.0, 0.5, False), _share(None, 0.9, True), _share(-1.0, -2.0, False)
    (0.5, 0.25, 0.0, 0.0)
    """
    if best is None:
        return 0.0
    if best >= bound if is_higher_better else best <= bound:
        return 1.0
    part, whole = (best, bound) if is_higher_better else (bound, best)
    return part / whole if part > 0 and whole > 0 else 0.0
