"""A campaign's status as watchers read it: what its coordinator wrote, or what another program wrote in its place.

``coordinator/telemetry/status.py`` writes it. Here each field that a watcher counts on has a form; one that is missing
or of another form is as good as nothing: 0, None, or left out. A status without a state is none at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fl_core.broker import rows
from fl_core.errors import Reason
from fl_core.wire.checks import is_identifier
from fl_core.wire.states import STATES

MAX_TEXT = 500
MAX_NAMES = 10_000
MAX_QUEUES = 64
MAX_METRICS = 64
_MAX_BOUNDS = 64
_MAX_HISTOGRAMS = 32
_REASONS = frozenset(reason.value for reason in Reason)

_COUNTS = (
    "versions", "issued", "merged", "expired", "cancelled", "out", "reissued", "rollbacks", "num_parameters",
    "delivered_version",
    "bytes_up", "bytes_down", "num_workers", "live_workers", "claimed", "buffered", "buffer_size", "concurrency",
)  # fmt: skip
_NUMBERS = ("wall_seconds", "updates_per_second", "recent_updates_per_second", "checkpoint_age_seconds")
_SCORES = ("final_accuracy", "best_accuracy", "final_loss", "best_loss")
_TEXTS = ("name", "stop_reason", "strategy", "waits_for")


def read_status(packed: bytes | None) -> dict[str, Any]:
    """A status; empty where there is none, or what is there is none."""
    if not packed:
        return {}
    try:
        found = rows.plain(packed)
    except rows.BadRow:
        return {}
    return _formed(found) if isinstance(found, dict) and found.get("state") in STATES else {}


def _formed(found: dict[str, Any]) -> dict[str, Any]:
    status = {name: value for name, value in found.items() if name not in _OPTIONAL}
    status |= {name: found[name] if _is_count(found.get(name)) else 0 for name in _COUNTS}
    status |= {name: found[name] if _is_number(found.get(name)) else 0.0 for name in _NUMBERS}
    status |= {name: found[name] if _is_number(found.get(name)) else None for name in _SCORES}
    status |= {name: found[name][:MAX_TEXT] if isinstance(found.get(name), str) else "" for name in _TEXTS}
    for name in ("rejected", "surplus"):
        status[name] = {reason: n for reason, n in _counters(found.get(name)).items() if reason in _REASONS}
    status["merged_by_worker"] = _counters(found.get("merged_by_worker"))
    staleness = _mapping(found.get("staleness"))
    status["staleness"] = {
        name: staleness[name] if _is_number(staleness.get(name)) else 0 for name in ("mean", "p50", "p95", "max")
    }
    for name, is_fit in _OPTIONAL.items():
        if name in found and is_fit(found[name]):
            status[name] = found[name]
    return status


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= rows.MAX_NUMBER


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= rows.MAX_NUMBER


def _counters(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    found = {name: count for name, count in value.items() if is_identifier(name) and _is_count(count)}
    return dict(list(found.items())[:MAX_NAMES])


def _is_histogram(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _are_bounds(value.get("bounds"))
        and _are_counts(value.get("counts"), value["bounds"])
        and _is_number(value.get("sum"))
    )


def _are_histograms(value: Any) -> bool:
    if not isinstance(value, dict) or not _are_bounds(value.get("bounds")):
        return False
    sums, counts = value.get("sums"), value.get("counts")
    return (
        isinstance(sums, dict)
        and isinstance(counts, dict)
        and len(sums) <= _MAX_HISTOGRAMS
        and sums.keys() == counts.keys()
        and all(is_identifier(name) and _is_number(total) for name, total in sums.items())
        and all(_are_counts(each, value["bounds"]) for each in counts.values())
    )


def _are_bounds(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= _MAX_BOUNDS and all(map(_is_number, value))


def _are_counts(value: Any, bounds: list[float]) -> bool:
    return isinstance(value, list) and len(value) == len(bounds) + 1 and all(map(_is_count, value))


def _is_timing(value: Any) -> bool:
    return (
        _are_histograms(value)
        and _is_count(value.get("updates"))
        and _are_histograms(value.get("work"))
        and {"publish", "evaluate"} <= value["work"]["sums"].keys()
        and _are_histograms(value.get("sizes"))
    )


def _are_queues(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_QUEUES and all(map(is_identifier, value))


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _are_scores(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_are_numbers, value.values()))


def _are_metrics(value: Any) -> bool:
    return isinstance(value, dict) and len(value) <= MAX_METRICS and all(map(_is_metric, value.items()))


def _is_metric(item: tuple[Any, Any]) -> bool:
    name, row = item
    return (
        is_identifier(name)
        and isinstance(row, dict)
        and all(row.get(key) is None or _is_number(row[key]) for key in ("final", "best"))
        and type(row.get("higher_is_better")) is bool
    )


def _are_targets(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_METRICS and all(map(_is_target, value))


def _is_target(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and is_identifier(row.get("metric"))
        and _is_number(row.get("bound"))
        and type(row.get("higher_is_better")) is bool
    )


def _is_told(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("sentence"), str)


# What watchers look for before they use it.
_OPTIONAL: Mapping[str, Callable[[Any], bool]] = {
    "written_ms": _is_count,
    "queues": _are_queues,
    "stop": _are_numbers,
    "targets": _are_targets,
    "metrics": _are_metrics,
    "seconds_to": _are_numbers,
    "staleness_histogram": _is_histogram,
    "timing": _is_timing,
    "fruitless": _is_told,
    "device_means": _are_numbers,
    "device_scores": _are_scores,
}
