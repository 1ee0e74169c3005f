"""A finished run's folder, read once: ``summary.json``, ``history.jsonl`` and ``spec.toml``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.report.series import Series, read_series
from fl_core.errors import SpecError
from fl_core.wire.status import Summary


@dataclass(slots=True)
class FinishedRun:
    """What the folder says.

    Attributes:
        summary: what it came to.
        written: the content of ``summary.json``, as it is there.
        spec: the text of ``spec.toml``.
        series: the history, folded.
        name: what it is called on pages: the campaign's id, unless another run there has the same.
    """

    folder: Path
    summary: Summary
    written: Mapping[str, Any]
    spec: str
    series: Series
    name: str

    @property
    def contributions(self) -> list[int]:
        """Updates merged of each worker that contributed."""
        return list(self.summary.merged_by_worker.values())


def read_run(folder: Path) -> FinishedRun:
    """Read a run's folder.

    Raises:
        SpecError: it is none, or its campaign has not ended.
        CampaignError: its history is damaged.
    """
    summary_path, history = folder / "summary.json", folder / "history.jsonl"
    if not summary_path.is_file() or not history.is_file():
        raise SpecError(f"{folder} holds no finished run (no summary.json and history.jsonl); name a run's folder.")
    try:
        written = json.loads(summary_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SpecError(f"{summary_path} is not JSON ({error}); the run has to be repeated.") from None
    spec = folder / "spec.toml"
    text = spec.read_text(encoding="utf-8") if spec.is_file() else ""
    summary = Summary.from_map(written)
    return FinishedRun(folder, summary, written, text, read_series(history), summary.campaign)


def jain(counts: Sequence[float]) -> float:
    """Jain's fairness index, (sum x)^2 / (n sum x^2): 1 when all gave the same, 1/n at worst.

    R. Jain, D. Chiu and W. Hawe, "A quantitative measure of fairness and discrimination", DEC-TR-301, 1984.

    >>> jain([3, 3, 3]), jain([1, 0])
    (1.0, 0.5)
    """
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 1.0
