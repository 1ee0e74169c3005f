"""A campaign's outcome: its summary, and its status while it runs.

``summary.json`` in a run's folder is the map of a ``Summary``. The coordinator writes the map of a ``Status`` to the
broker about twice a second (msgpack, a few kilobytes), for everybody who watches. The attributes are the maps' keys,
in their order. Every field has a default, since it is read from a broker to which others can write, and from files of
earlier releases: one that is missing or of another form is as good as nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from fl_core.errors import Reason
from fl_core.privacy.status import PrivacyStatus
from fl_core.wire.checks import is_identifier
from fl_core.wire.histogram import Histogram, Histograms, histograms_from_map, histograms_to_map
from fl_core.wire.lenient import Lenient, known, record, records_by_name, when
from fl_core.wire.states import OVER, STATES

MAX_TEXT = 500
MAX_NAMES = 2**17
MAX_QUEUES = 64
MAX_METRICS = 64
# JSON's and a double's whole numbers.
MAX_NUMBER = 2**53
_MAX_BOUNDS = 64
_MAX_HISTOGRAMS = 32
_REASONS = frozenset(reason.value for reason in Reason)


# -- forms ---------------------------------------------------------------------------------------------------------


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_NUMBER


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_NUMBER


def _text(value: Any) -> str | None:
    return value[:MAX_TEXT] if isinstance(value, str) else None


def _counters(value: Any) -> dict[str, int] | None:
    if not isinstance(value, dict):
        return None
    found = {name: count for name, count in value.items() if is_identifier(name) and _is_count(count)}
    return dict(list(found.items())[:MAX_NAMES])


def _reasons(value: Any) -> dict[str, int]:
    return {reason: count for reason, count in (_counters(value) or {}).items() if reason in _REASONS}


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _are_scores(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_are_numbers, value.values()))


def _texts(value: Any) -> tuple[str, ...] | None:
    return tuple(each[:MAX_TEXT] for each in value if isinstance(each, str)) if isinstance(value, list) else None


def _queues(value: Any) -> tuple[str, ...] | None:
    fit = isinstance(value, list) and len(value) <= MAX_QUEUES and all(map(is_identifier, value))
    return tuple(value) if fit else None


def _are_bounds(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= _MAX_BOUNDS and all(map(_is_number, value))


def _are_buckets(value: Any, bounds: list[float]) -> bool:
    return isinstance(value, list) and len(value) == len(bounds) + 1 and all(map(_is_count, value))


def _histogram(value: Any) -> Histogram | None:
    fit = (
        isinstance(value, dict)
        and _are_bounds(value.get("bounds"))
        and _are_buckets(value.get("counts"), value["bounds"])
        and _is_number(value.get("sum"))
    )
    return Histogram.from_map(value) if fit else None


def _histograms(value: Any) -> Histograms | None:
    if not isinstance(value, dict) or not _are_bounds(value.get("bounds")):
        return None
    sums, counts = value.get("sums"), value.get("counts")
    fit = (
        isinstance(sums, dict)
        and isinstance(counts, dict)
        and 0 < len(sums) <= _MAX_HISTOGRAMS
        and sums.keys() == counts.keys()
        and all(is_identifier(name) and _is_number(total) for name, total in sums.items())
        and all(_are_buckets(each, value["bounds"]) for each in counts.values())
    )
    return histograms_from_map(value) if fit else None


# -- parts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Staleness(Lenient):
    """Of merged updates, in versions: the mean, nearest-rank quantiles, and the highest."""

    mean: float = known(when(_is_number), 0)
    p50: float = known(when(_is_number), 0)
    p95: float = known(when(_is_number), 0)
    max: float = known(when(_is_number), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricScores(Lenient):
    """A metric's newest and best number, None where there is none, and its direction."""

    final: float | None = known(when(_is_number), None)
    best: float | None = known(when(_is_number), None)
    higher_is_better: bool = known(when(lambda value: type(value) is bool), True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target(Lenient):
    """A score under ``[stop]`` that ends the campaign when it is reached."""

    metric: str = known(when(is_identifier), "")
    bound: float = known(when(_is_number), 0.0)
    higher_is_better: bool = known(when(lambda value: type(value) is bool), True)


def _targets(value: Any) -> tuple[Target, ...] | None:
    if not isinstance(value, list) or len(value) > MAX_METRICS:
        return None
    found = tuple(Target.from_map(each) for each in value)
    return found if all(each.metric for each in found) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetTarget(Lenient):
    """The target that a version has met, with which number."""

    metric: str = known(when(is_identifier), "")
    value: float | None = known(when(_is_number), None)
    bound: float = known(when(_is_number), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures(Lenient):
    """What a long stretch of failures has in common (``coordinator/campaign/fruitless.py``).

    Attributes:
        failures: attempts since the last update that was admitted.
        since_seconds: when the first of them failed.
        reasons, workers: counts by name.
        detail: what is said most often.
        advice: what to do.
        sentence: all of it.
    """

    failures: int = known(when(_is_count), 0)
    since_seconds: float = known(when(_is_number), 0.0)
    reasons: Mapping[str, int] = known(_counters, {})
    detail: str = known(_text, "")
    workers: Mapping[str, int] = known(_counters, {})
    advice: str = known(_text, "")
    sentence: str = known(when(lambda value: isinstance(value, str)), "")


@dataclass(frozen=True, slots=True)
class TimingStatus:
    """Where the time goes (``coordinator/telemetry/timing.py``).

    Attributes:
        updates: how many were timed.
        parts: of each update's life, in seconds.
        work: the coordinator's own, in seconds: publish, evaluate, checkpoint.
        sizes: of updates, in bytes.
    """

    updates: int
    parts: Histograms
    work: Histograms
    sizes: Histograms

    def to_map(self) -> dict[str, Any]:
        """Plain types; the parts stand at the top."""
        return {
            "updates": self.updates,
            **histograms_to_map(self.parts),
            "work": histograms_to_map(self.work),
            "sizes": histograms_to_map(self.sizes),
        }


def read_timing(value: Any) -> TimingStatus | None:
    """The inverse of ``TimingStatus.to_map``; None for what is none."""
    if not isinstance(value, dict) or not _is_count(value.get("updates")):
        return None
    parts, work, sizes = _histograms(value), _histograms(value.get("work")), _histograms(value.get("sizes"))
    if parts is None or work is None or sizes is None or not {"publish", "evaluate"} <= work.keys():
        return None
    return TimingStatus(value["updates"], parts, work, sizes)


# -- the records ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Lenient):
    """What a campaign has come to. ``issued = merged + sum(rejected) + expired + cancelled + out`` holds.

    Attributes:
        campaign, name: its id, and the name in its spec.
        state: one of ``fl_core.wire.states.STATES``; empty where nobody has said anything yet.
        stop_reason: why it is over, interrupted or failed.
        strategy: which one merges.
        versions: merges so far.
        issued, merged, expired, cancelled, out, reissued: tasks; see ``coordinator/campaign/ledger.py``.
        rejected: tasks that a refused update ended, by reason.
        surplus: updates that answered no open task, by reason; no part of the equation above.
        wall_seconds: since it was opened, or until its end.
        updates_per_second: merged, over all that time.
        staleness: of merged updates.
        delivered_version: the one whose parameters are the result.
        target_met: under ``[stop]``; None where none was.
        metrics: by name, those that the spec names first come first; an earlier release's has accuracy alone.
        final_accuracy, best_accuracy, final_loss, best_loss: newest and best; None where there is none.
        seconds_to: when an accuracy was first reached, by ``"0.90"``.
        rollbacks: how often the model had diverged and was taken back.
        num_parameters: of the model.
        bytes_up, bytes_down: of payloads, as far as devices say so.
        fruitless: what a long stretch of failures has in common.
        device_means, device_scores: what devices score on their own data: means, and by worker.
        privacy: what devices have spent of their budgets; None where the coordinator adds no noise.
        num_workers: how many have contributed.
        merged_by_worker: updates by worker; in a status of those that contributed most.
        model_digest: of the delivered parameters; in a summary alone.
        left_out: what could not be made at the end, and why; in a summary alone.
    """

    campaign: str = known(_text, "")
    name: str = known(_text, "")
    state: str = known(when(lambda value: isinstance(value, str) and value in STATES), "")
    stop_reason: str = known(_text, "")
    strategy: str = known(_text, "")
    versions: int = known(when(_is_count), 0)
    issued: int = known(when(_is_count), 0)
    merged: int = known(when(_is_count), 0)
    rejected: Mapping[str, int] = known(_reasons, {})
    expired: int = known(when(_is_count), 0)
    cancelled: int = known(when(_is_count), 0)
    out: int = known(when(_is_count), 0)
    reissued: int = known(when(_is_count), 0)
    surplus: Mapping[str, int] = known(_reasons, {})
    wall_seconds: float = known(when(_is_number), 0.0)
    updates_per_second: float = known(when(_is_number), 0.0)
    staleness: Staleness = known(record(Staleness), Staleness())
    delivered_version: int = known(when(_is_count), 0)
    target_met: MetTarget | None = known(record(MetTarget), None)
    metrics: Mapping[str, MetricScores] | None = known(
        records_by_name(MetricScores, is_identifier, MAX_METRICS), None, optional=True
    )
    final_accuracy: float | None = known(when(_is_number), None)
    best_accuracy: float | None = known(when(_is_number), None)
    final_loss: float | None = known(when(_is_number), None)
    best_loss: float | None = known(when(_is_number), None)
    seconds_to: Mapping[str, float] | None = known(when(_are_numbers), None, optional=True)
    rollbacks: int = known(when(_is_count), 0)
    num_parameters: int = known(when(_is_count), 0)
    bytes_up: int = known(when(_is_count), 0)
    bytes_down: int = known(when(_is_count), 0)
    fruitless: Failures | None = known(record(Failures), None, optional=True)
    device_means: Mapping[str, float] | None = known(when(_are_numbers), None, optional=True)
    device_scores: Mapping[str, Mapping[str, float]] | None = known(when(_are_scores), None, optional=True)
    privacy: PrivacyStatus | None = known(record(PrivacyStatus), None, optional=True)
    num_workers: int = known(when(_is_count), 0)
    merged_by_worker: Mapping[str, int] = known(_counters, {})
    model_digest: str | None = known(_text, None, optional=True)
    left_out: tuple[str, ...] | None = known(_texts, None, optional=True)

    @property
    def is_over(self) -> bool:
        """There is no state after this one."""
        return self.state in OVER

    @property
    def num_rejected(self) -> int:
        """Tasks that a refused update ended."""
        return sum(self.rejected.values())

    @property
    def missing(self) -> int:
        """Tasks that the ledger does not account for: 0, or there is a hole."""
        return self.issued - self.merged - self.num_rejected - self.expired - self.cancelled - self.out


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Summary):
    """How a campaign is, as its coordinator last said; ``Status()`` where it has not said anything yet.

    Attributes:
        live_workers: on the campaign's queues.
        claimed: tasks that a worker has in hand.
        buffered, buffer_size: admitted updates that wait for a merge, and how many make one.
        waits_for: what is missing before anything can be merged; empty if nothing is.
        recent_updates_per_second: merged, over the last seconds.
        checkpoint_age_seconds: of the newest durable one.
        written_ms: when it was written, by the server's clock.
        queues, concurrency: as in the spec's ``[dispatch]``.
        stop: the conditions under ``[stop]`` that are counts: updates, versions, seconds.
        targets: those that are scores.
        staleness_histogram: of merged updates.
        timing: where the time goes.
        writer: who holds the campaign's lease; added from the broker when it is read, and not written.
    """

    live_workers: int = known(when(_is_count), 0)
    claimed: int = known(when(_is_count), 0)
    buffered: int = known(when(_is_count), 0)
    buffer_size: int = known(when(_is_count), 0)
    waits_for: str = known(_text, "")
    recent_updates_per_second: float = known(when(_is_number), 0.0)
    checkpoint_age_seconds: float = known(when(_is_number), 0.0)
    written_ms: int | None = known(when(_is_count), None, optional=True)
    queues: tuple[str, ...] | None = known(_queues, None, optional=True)
    concurrency: int = known(when(_is_count), 0)
    stop: Mapping[str, float] | None = known(when(_are_numbers), None, optional=True)
    targets: tuple[Target, ...] | None = known(_targets, None, optional=True)
    staleness_histogram: Histogram | None = known(_histogram, None, optional=True)
    timing: TimingStatus | None = known(read_timing, None, optional=True)
    writer: str | None = None

    @classmethod
    def from_map(cls, found: object) -> Self:
        """The inverse of ``to_map``; a status without a state is none at all."""
        status = super(Status, cls).from_map(found)
        return status if status.state else cls()

    def to_row(self, campaign: str) -> dict[str, Any]:
        """For scripts: the id by which the broker knows it, what was said, and who leads it."""
        said = self.to_map() if self.state else {}
        return {**said, "campaign": campaign, "writer": self.writer}
