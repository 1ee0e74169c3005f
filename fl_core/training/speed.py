"""How fast this device has been: seconds of training per example, campaign by campaign."""

from __future__ import annotations

from collections import OrderedDict

from fl_core.training.local import LocalTraining

# Half the weight on the newest task: a device that is throttled, or shared, adapts within a few.
_NEWEST = 0.5
_MAX_CAMPAIGNS = 16


class SpeedProfile:
    """A running mean that forgets, for each of the last few campaigns (their models differ in cost).

    The first task of a campaign pays for what is loaded and set up once, many times a small task's own cost. It is all
    that is known for the second task, whose measure then replaces it.

    >>> profile = SpeedProfile()
    >>> profile.seconds_per_example("digits") is None
    True
    >>> for seconds in (50.0, 2.0, 1.0):
    ...     profile.note("digits", LocalTraining(10, 5, 0.0, {}, seconds=seconds, num_seen=100))
    >>> profile.seconds_per_example("digits")
    0.015
    """

    def __init__(self) -> None:
        self._seconds: OrderedDict[str, float] = OrderedDict()
        self._settled: set[str] = set()

    def seconds_per_example(self, campaign: str) -> float | None:
        """None before the first task."""
        return self._seconds.get(campaign)

    def note(self, campaign: str, training: LocalTraining) -> None:
        """Take one task's training in. A method that does not count what it has seen teaches nothing."""
        if not training.num_seen:
            return
        newest = training.seconds / training.num_seen
        before = self._seconds.pop(campaign, None)
        if campaign in self._settled and before is not None:
            newest = (1 - _NEWEST) * before + _NEWEST * newest
        elif before is not None:
            self._settled.add(campaign)
        self._seconds[campaign] = newest
        while len(self._seconds) > _MAX_CAMPAIGNS:
            self._settled.discard(self._seconds.popitem(last=False)[0])
