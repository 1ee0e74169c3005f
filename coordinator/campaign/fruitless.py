"""When nothing comes of it: attempts that failed since the last update was admitted, and what they have in common.

A stretch of failures is worth a word when there are ``limit`` of them. A campaign that has never merged anything is
then ended (sooner where few devices, held back by their breakers, all fail again and again), unless somebody may yet
answer: tasks of a queue are taken in their order, and a device does one at a time.
So a task that is older than what others had taken when each of the failing devices failed last is in other hands. A
device that failed and has not failed again in the time that it took before may have left: it may hold no task.
Like everything in the campaign's state this is a function of the log: a replay comes to the same end at the same entry.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from coordinator.campaign.ledger import Ledger, OpenTask
from fl_core.aggregation import Strategy
from fl_core.errors import Reason
from fl_core.spec import CampaignSpec
from fl_core.vectors.arithmetic import peak
from fl_core.vectors.layout import Layout

LEAST_FAILURES = 20
LEAST_SECONDS = 15.0
FAILURES_PER_TASK = 2
# A device tries what fails there ever more rarely: where each that fails does so for as often and as long, that says as
# much as many failures.
FAILURES_EACH = 5
FEWEST_FAILURES = 10
SECONDS_EACH = 25.0
MAX_WORKERS = 4096
MAX_DETAILS = 64
MAX_DETAIL_CHARACTERS = 300
NAMED_WORKERS = 8
# A device that is silent for so many times what it took from one failure to the next does not fail any more.
SILENT_TIMES = 3

Place: TypeAlias = tuple[int, int]
"""Milliseconds and number of a task's issue: where it stands among the tasks of its queue."""


@dataclass(slots=True)
class _Failing:
    """A device's failures in this stretch: how many, the times of the first and the last one, and the queue of the last
    with the newest task that anybody had taken of it by then."""

    count: int
    first_ms: int
    last_ms: int
    queue: str
    place: Place

    def may_hold_a_task(self, now_ms: int) -> bool:
        usual = (self.last_ms - self.first_ms) / (self.count - 1) if self.count > 1 else -1.0
        return usual >= 0 and now_ms - self.last_ms <= max(SILENT_TIMES * usual, LEAST_SECONDS * 1000)


_NUMBER = re.compile(r"\d[\d.,e+-]*")


def place_of(task: OpenTask) -> tuple[str, Place]:
    """A task's queue, and where its present attempt stands there."""
    return task.queue, (task.issued_ms, task.number)


class Fruitless:
    """One stretch of failures; it ends with the next update that is admitted.

    Args:
        spec: the campaign's.

    Attributes:
        limit: so many failures are worth a word, and end a campaign that has never merged.
        failures: how many there are.
        since_ms: the first of them, server's clock.
    """

    def __init__(self, spec: CampaignSpec) -> None:
        self._spec = spec
        self._asked = spec.stop.failures_without_merge
        usual = max(LEAST_FAILURES, FAILURES_PER_TASK * spec.dispatch.concurrency)
        self.limit = self._asked or usual
        self._clear()

    def _clear(self) -> None:
        self.failures = 0
        self.since_ms = 0
        self._reasons: Counter[str] = Counter()
        self._details: dict[str, tuple[int, str, str]] = {}
        self._workers: Counter[str] = Counter()
        self._frontiers: dict[str, Place] = {}
        self._seen: dict[str, _Failing] = {}
        self._spoilt = ""

    def end(self) -> None:
        """An update was admitted."""
        if self.failures:
            self._clear()

    def note(self, reason: str, detail: str, worker: str, taken: tuple[str, Place], entry_ms: int) -> bool:
        """An attempt at a task failed; whether with it the stretch has become worth a word.

        Args:
            reason: of the rejection, or ``failed``, ``handed_back``, ``lost``, ``deadline``.
            detail: what is known of it, in words.
            worker: who failed; empty where that is not known.
            taken: the task's queue, and where it stood there.
            entry_ms: when.
        """
        queue, place = taken
        self._frontiers[queue] = max(place, self._frontiers.get(queue, place))
        self.failures += 1
        self.since_ms = self.since_ms or entry_ms
        self._reasons[reason] += 1
        said = detail.strip()[:MAX_DETAIL_CHARACTERS]
        key = f"{reason}: {_NUMBER.sub('#', said)}"
        if key in self._details or len(self._details) < MAX_DETAILS:
            count, _, first = self._details.get(key, (0, reason, said))
            self._details[key] = (count + 1, reason, first)
        if worker in self._workers or len(self._workers) < MAX_WORKERS:
            self._workers[worker] += 1
            first_ms = self._seen[worker].first_ms if worker in self._seen else entry_ms
            until = self._frontiers[queue] if worker else place
            self._seen[worker] = _Failing(self._workers[worker], first_ms, entry_ms, queue, until)
        return self.failures == self.limit

    @property
    def is_long(self) -> bool:
        """The stretch is worth a word."""
        return self.failures >= self.limit

    def ends_campaign(self, ledger: Ledger, now_ms: int) -> bool:
        """Whether the campaign has come to nothing.

        Args:
            ledger: with the tasks that are open.
            now_ms: of the newest failure.
        """
        if self._asked == 0 or ledger.buffered or not (self.is_long or self._all_keep_failing(now_ms)):
            return False
        if self._asked is None and (ledger.merged or now_ms - self.since_ms < LEAST_SECONDS * 1000):
            return False  # what has worked before may work again, and what has just begun may be about to
        oldest: dict[str, Place] = {}
        for task in ledger.open.values():
            queue, place = place_of(task)
            oldest[queue] = min(place, oldest.get(queue, place))
        seen: dict[str, Place] = {}
        for worker, one in self._seen.items():
            if not worker or one.may_hold_a_task(now_ms):
                seen[one.queue] = min(one.place, seen.get(one.queue, one.place))
        # Of a queue of which nobody has failed, everybody may yet answer.
        return all(queue in seen and place >= seen[queue] for queue, place in oldest.items())

    def _all_keep_failing(self, now_ms: int) -> bool:
        """Whether all devices that failed lately fail again and again; where a number was asked for, that counts."""
        silent_ms = SECONDS_EACH * 1000
        if self._asked is not None or self.failures < FEWEST_FAILURES or now_ms - self.since_ms < silent_ms:
            return False
        lately = [one for one in self._seen.values() if now_ms - one.last_ms < silent_ms]
        return all(one.count >= FAILURES_EACH for one in lately)

    def look_at(self, strategy: Strategy, layout: Layout) -> None:
        """See whether the model itself is why updates are not finite; costs a pass over it."""
        values = strategy.parameters.values
        self._spoilt = ""
        # Of its weights: a buffer may hold what is not finite for good, as the mask of an attention does.
        if self._reasons[Reason.NOT_FINITE.value] and not math.isfinite(peak(values[layout.trainable])):
            weights = ((t.name, where) for t, where in zip(layout.tensors, layout.slices, strict=True) if t.trainable)
            self._spoilt = next(name for name, where in weights if not math.isfinite(peak(values[where])))

    # -- telling ---------------------------------------------------------------------------------------------------

    def describe(self, seconds: float) -> dict[str, Any]:
        """What the failures have in common, as plain JSON types; ``sentence`` says it all.

        Args:
            seconds: campaign time of the first of them.
        """
        if not self.failures:
            return {}
        reason = self._reasons.most_common(1)[0][0]
        rows = [row for row in self._details.values() if row[1] == reason]
        detail = max(rows, key=lambda row: row[0], default=(0, reason, ""))[2]
        names = [name for name, _ in self._workers.most_common(NAMED_WORKERS) if name]
        counts = ", ".join(f"{name} {count}" for name, count in self._reasons.most_common())
        more = len(self._workers) - len(names)
        whom = f", by {', '.join(names)}{f' and {more} more' if more > 0 and names else ''}" if names else ""
        said = f"; most often: {detail}" if detail else ""
        advice = self._advice(reason)
        return {
            "failures": self.failures,
            "since_seconds": seconds,
            "reasons": dict(self._reasons),
            "detail": detail,
            "workers": dict(self._workers.most_common(NAMED_WORKERS)),
            "advice": advice,
            "sentence": f"{self.failures} attempts since second {seconds:.0f} failed and no update was admitted "
            f"({counts}{whom}){said.rstrip('.')}. {advice}",
        }

    def _advice(self, reason: str) -> str:
        spec = self._spec
        if reason == Reason.NOT_FINITE.value and self._spoilt:
            return (
                f"The model itself holds NaN or infinite values, in {self._spoilt!r}, and so does what starts from it; "
                "mend the model, or lower the server's learning rate."
            )
        norm = spec.aggregation.max_update_norm
        bound = f"Raise aggregation.max_update_norm = {norm:g}, or lower" if norm is not None else "Lower"
        own = spec.codec.name if ":" in spec.codec.name else ""
        return {
            Reason.NOT_FINITE.value: f"Lower training.learning_rate = {spec.training.learning_rate:g}, set "
            "training.max_gradient_norm, and look for NaN in the devices' data.",
            Reason.NORM_EXCEEDED.value: f"{bound} training.learning_rate = {spec.training.learning_rate:g}.",
            Reason.MALFORMED.value: f"Mend codec.name = {own!r}."
            if own
            else "Run the same release of fedtide everywhere.",
            Reason.WRONG_LAYOUT.value: f"Install the same code of model.factory = {spec.model.factory!r} everywhere.",
            Reason.TOO_STALE.value: "Raise aggregation.max_staleness, or lower dispatch.concurrency.",
            Reason.MISSING_PAYLOAD.value: "The server drops payloads: look at its memory and its maxmemory-policy.",
            Reason.WRONG_DIGEST.value: "Payloads are damaged on the way: look at what is between devices and server.",
            "failed": "Mend what the devices' training raises; their logs have the traceback.",
            "handed_back": "Mend what the devices say; their logs have more.",
            "lost": "Devices fall silent while they train: see whether they are killed, perhaps for want of memory.",
            "deadline": f"Raise dispatch.task_timeout_seconds = {spec.dispatch.task_timeout_seconds:g}.",
        }.get(reason, "See the log of the coordinator and of the devices.")

    # -- checkpoint ------------------------------------------------------------------------------------------------

    def export(self) -> dict[str, Any]:
        """Everything, as plain msgpack types."""
        return {
            "failures": self.failures,
            "since_ms": self.since_ms,
            "reasons": dict(self._reasons),
            "details": {key: list(row) for key, row in self._details.items()},
            "workers": dict(self._workers),
            "frontiers": {queue: list(place) for queue, place in self._frontiers.items()},
            "seen": {name: [one.queue, *one.place, one.first_ms, one.last_ms] for name, one in self._seen.items()},
            "spoilt": self._spoilt,
        }

    def restore(self, exported: Mapping[str, Any]) -> None:
        """The inverse of ``export``."""
        self.failures, self.since_ms = exported["failures"], exported["since_ms"]
        self._reasons, self._workers = Counter(exported["reasons"]), Counter(exported["workers"])
        self._details = {key: (row[0], row[1], row[2]) for key, row in exported["details"].items()}
        self._frontiers = {queue: (row[0], row[1]) for queue, row in exported["frontiers"].items()}
        for worker, (queue, ms, number, *when) in exported["seen"].items():
            first_ms, last_ms = when or (0, 0)  # an earlier release's: it counts when it fails again
            self._seen[worker] = _Failing(self._workers[worker], first_ms, last_ms, queue, (ms, number))
        self._spoilt = exported["spoilt"]


def nothing_came_of_it(summary: Mapping[str, Any]) -> str:
    """Why a campaign that has ended has no result, in one sentence; empty where it has one.

    A campaign that an operator stopped, or whose first version met the target, has what was asked for.
    """
    reason, merged = summary["stop_reason"], summary["merged"]
    if reason != "fruitless" and not (reason == "seconds" and not merged):
        return ""
    begin = f"nothing came of campaign {summary['campaign']}: " + ("" if merged else "no update was merged")
    if sentence := summary.get("fruitless", {}).get("sentence"):
        return f"{begin}{'' if merged else '; '}{sentence}"
    return f"{begin}, and none was refused; see whether workers serve its queues, and how long a task takes them."
