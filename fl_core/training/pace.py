"""Work that fits the device: as many local steps as its measured speed allows in the time that the spec gives.

A fleet whose devices differ 40-fold then answers at one pace: fast devices do more work per update, slow ones less, and
no update is stale because its device is slow. In the manner of FedCompass (Li et al., ICLR 2024, arXiv 2309.14675),
whose server assigns the steps; here each device chooses its own, because a task is bound to a device only when it is
taken.
"""

from __future__ import annotations

from collections import OrderedDict

from fl_core.spec import TrainingSection
from fl_core.training.local import LocalTraining

# Half the weight on the newest task: a device that is throttled, or shared, adapts within a few.
_NEWEST = 0.5
_MAX_CAMPAIGNS = 16


def fit_work(settings: TrainingSection, seconds_per_example: float | None) -> TrainingSection:
    """The settings with ``local_steps`` and ``batch_size`` for this device; unchanged without ``pace_seconds``.

    The budget is ``pace_seconds / seconds_per_example`` examples. It is spent in batches of ``batch_size``, between
    ``min_steps`` and ``max_steps`` of them. A device too slow for ``min_steps`` takes smaller batches, down to
    ``min_batch_size``; one too slow even for those takes longer than the pace.

    Args:
        settings: the task's.
        seconds_per_example: what training on one example has taken here; None before the first task, which is then a
            probe of ``min_steps``.

    >>> paced = TrainingSection(pace_seconds=1.0, batch_size=32, min_steps=2, max_steps=50)
    >>> [(s.local_steps, s.batch_size) for s in (fit_work(paced, speed) for speed in (0.0001, 0.002, 0.02, 1.0))]
    [(50, 32), (15, 32), (2, 25), (2, 8)]
    >>> fit_work(paced, None).local_steps
    2
    """
    if settings.pace_seconds is None:
        return settings
    if not seconds_per_example:
        return settings.model_copy(update={"local_steps": settings.min_steps})
    budget = settings.pace_seconds / seconds_per_example
    steps = int(min(settings.max_steps, max(settings.min_steps, budget // settings.batch_size)))
    batch_size = settings.batch_size
    if budget < steps * batch_size:
        batch_size = int(min(batch_size, max(settings.min_batch_size, budget // steps)))
    return settings.model_copy(update={"local_steps": steps, "batch_size": batch_size})


class SpeedProfile:
    """Seconds of training per example: a running mean that forgets, for each of the last few campaigns, whose models
    differ in cost.

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
